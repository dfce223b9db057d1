// How a digit is written: what is drawn of its attributes, from noise and from what is asked for. The table of
// models/attributes.py, in the same numbers.

import { roundHalfEven } from "./random.js"

export class AttributeTable {
  // `text` is the table in a generator file.
  constructor(text) {
    Object.assign(this, JSON.parse(text)) // names, knots (Q), values (K, A, Q), correlation (K, A, A)
  }

  // Return the scores of a picture of class `label` from `noise`; `asked` holds values by name. See `AttributeTable.draw`.
  draw(noise, label, asked, truncation) {
    const { names } = this
    for (const name of Object.keys(asked)) {
      if (!names.includes(name)) throw new Error(`this generator draws without ${name}`)
    }
    const covariance = this.correlation[label].map((row) => [...row])
    const scores = cholesky(covariance).map((row) => row.reduce((sum, factor, k) => sum + factor * (truncation * noise[k]), 0))
    names.forEach((name, column) => {
      if (!Number.isFinite(asked[name] ?? NaN)) return
      const wanted = piecewise(asked[name], this.values[label][column], this.knots)
      const own = covariance.map((row) => row[column])
      const gain = own.map((value) => value / own[column])
      const move = wanted - scores[column]
      gain.forEach((factor, k) => {
        scores[k] += factor * move
        own.forEach((value, n) => { covariance[k][n] -= factor * value })
      })
    })
    return scores.map((score) => roundHalfEven(score * 4096) / 4096)
  }
}

// Return the lower triangular factor of a positive definite matrix.
function cholesky(matrix) {
  const factor = matrix.map((row) => row.map(() => 0))
  for (let i = 0; i < matrix.length; i++) {
    for (let j = 0; j <= i; j++) {
      let rest = matrix[i][j]
      for (let k = 0; k < j; k++) rest -= factor[i][k] * factor[j][k]
      factor[i][j] = i === j ? Math.sqrt(rest) : rest / factor[j][j]
    }
  }
  return factor
}

// Return the piecewise linear function through points (xs, ys) at x, constant beyond the ends.
function piecewise(x, xs, ys) {
  const inside = Math.min(Math.max(x, xs[0]), xs.at(-1))
  let k = 0
  while (k < xs.length - 2 && xs[k + 1] <= inside) k++
  const t = (inside - xs[k]) / (xs[k + 1] - xs[k])
  return ys[k] + t * (ys[k + 1] - ys[k])
}
