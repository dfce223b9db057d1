// Between latents: the functions of models/sampling.py in the same numbers.

export function truncate(z, truncation) {
  if (!(truncation >= 0 && truncation <= 1)) throw new Error(`truncation must be between 0 and 1: got ${truncation}`)
  return z.map((value) => value * truncation)
}

// Return the point at t of the straight line from a to b.
export function lerp(a, b, t) {
  return a.map((value, k) => value + (b[k] - value) * t)
}

// Return the point at t of the arc from a to b; its length changes linearly. See `slerp` in models/sampling.py.
export function slerp(a, b, t) {
  const lengthA = norm(a)
  const lengthB = norm(b)
  if (lengthA === 0 || lengthB === 0) return lerp(a, b, t)
  const cosine = dot(a, b) / (lengthA * lengthB)
  const angle = Math.acos(Math.min(Math.max(cosine, -1), 1))
  const sine = Math.sin(angle)
  if (sine < 1e-4) return lerp(a, b, t)
  const fromA = Math.sin((1 - t) * angle)
  const fromB = Math.sin(t * angle)
  const length = lengthA + (lengthB - lengthA) * t
  return a.map((value, k) => (((fromA * value) / lengthA + (fromB * b[k]) / lengthB) / sine) * length)
}

// Return the point at (x, y) between corners at (0, 0), (1, 0), (0, 1) and (1, 1). See `plane` in models/sampling.py.
export function plane(corners, x, y) {
  const weights = cornerWeights(x, y)
  const mean = mix(corners, weights)
  const length = norm(mean)
  if (!(length > 0)) return mean
  const wanted = weights.reduce((sum, weight, c) => sum + weight * norm(corners[c]), 0)
  return mean.map((value) => value * (wanted / length))
}

// Return the weights of the corners at (0, 0), (1, 0), (0, 1) and (1, 1) at a point (x, y).
export function cornerWeights(x, y) {
  return [(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y]
}

// Return the sum of rows, each times its weight.
export function mix(rows, weights) {
  return rows[0].map((_, k) => weights.reduce((sum, weight, n) => sum + weight * rows[n][k], 0))
}

// Return the class row of a digit; `digit` is null for a generator without classes.
export function oneHot(digit, classes) {
  const row = new Float64Array(classes)
  if (!classes) return row
  if (!Number.isInteger(digit) || digit < 0 || digit >= classes) {
    throw new Error(`class must be between 0 and ${classes - 1}: got ${digit}`)
  }
  row[digit] = 1
  return row
}

function dot(a, b) {
  let sum = 0
  for (let k = 0; k < a.length; k++) sum += a[k] * b[k]
  return sum
}

function norm(a) {
  return Math.sqrt(dot(a, a))
}
