// How a digit is written: what is drawn of its attributes, by its seed and by what is asked for. The table of
// models/attributes.py, in the same numbers.

import { roundHalfEven } from "./random.js"

const EXAMPLE_UNIT = 1 / 64
const NEAR = 0.5

export class AttributeTable {
  // `text` is the table in a generator file.
  constructor(text) {
    Object.assign(this, JSON.parse(text)) // names, knots (Q), values (K, A, Q), examples (K, E, A) in units
    for (const rows of this.examples) for (const row of rows) row.forEach((units, k) => { row[k] = units * EXAMPLE_UNIT })
  }

  // Return the scores of a picture of class `label` from `draw`, in [0, 1); `asked` holds values by name. See
  // `AttributeTable.draw`.
  draw(draw, label, asked, truncation) {
    const { names } = this
    for (const name of Object.keys(asked)) {
      if (!names.includes(name)) throw new Error(`this generator draws without ${name}`)
    }
    const examples = this.examples[label]
    const drawn = examples[Math.floor(draw * examples.length)].map((score) => truncation * score)
    const known = names.flatMap((name, column) => (Number.isFinite(asked[name] ?? NaN) ? [column] : []))
    const scores = known.length ? this.following(drawn, known, label, asked) : drawn
    return scores.map((score) => roundHalfEven(score * 4096) / 4096)
  }

  // Return the scores that are asked for in columns `known`, and in the others `drawn`, moved to fit.
  following(drawn, known, label, asked) {
    const wanted = [...drawn]
    for (const column of known) wanted[column] = piecewise(asked[this.names[column]], this.values[label][column], this.knots)
    const [to, from] = [wanted, drawn].map((scores) => typical(this.examples[label], known, scores))
    return wanted.map((score, column) => (known.includes(column) ? score : score + (to[column] - from[column])))
  }
}

// Return the mean of examples, weighted by how near they are to `scores` in columns `known`.
function typical(examples, known, scores) {
  const sums = scores.map(() => 0)
  let total = 0
  for (const example of examples) {
    let squares = 0
    for (const column of known) squares += (example[column] - scores[column]) ** 2
    const weight = 1 / (1 + squares / NEAR ** 2) ** 3
    total += weight
    for (let k = 0; k < sums.length; k++) sums[k] += weight * example[k]
  }
  return sums.map((sum) => sum / total)
}

// Return the piecewise linear function through points (xs, ys) at x, constant beyond the ends.
function piecewise(x, xs, ys) {
  const inside = Math.min(Math.max(x, xs[0]), xs.at(-1))
  let k = 0
  while (k < xs.length - 2 && xs[k + 1] <= inside) k++
  const t = (inside - xs[k]) / (xs[k + 1] - xs[k])
  return ys[k] + t * (ys[k + 1] - ys[k])
}
