// The random numbers of numpy.random.RandomState, whose stream is frozen (NEP 19): MT19937 by Matsumoto and Nishimura
// (1998), and the polar method for normal numbers. They make the same latents as models/sampling.py.

import { MAX_SEED } from "./values.js"

const N = 624
const M = 397

export class RandomState {
  // `seed` is a whole number from 0 to 2^32 - 1.
  constructor(seed) {
    this.state = new Uint32Array(N)
    this.state[0] = seed
    for (let k = 1; k < N; k++) {
      const previous = this.state[k - 1] ^ (this.state[k - 1] >>> 30)
      this.state[k] = Math.imul(1812433253, previous) + k
    }
    this.index = N
    this.spare = null
  }

  refill() {
    const { state } = this
    for (let k = 0; k < N; k++) {
      const y = (state[k] & 0x80000000) | (state[(k + 1) % N] & 0x7fffffff)
      state[k] = state[(k + M) % N] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0)
    }
    this.index = 0
  }

  uint32() {
    if (this.index === N) this.refill()
    let y = this.state[this.index++]
    y ^= y >>> 11
    y ^= (y << 7) & 0x9d2c5680
    y ^= (y << 15) & 0xefc60000
    return (y ^ (y >>> 18)) >>> 0
  }

  // Return a number in [0, 1) with 53 random bits.
  uniform() {
    const a = this.uint32() >>> 5
    const b = this.uint32() >>> 6
    return (a * 67108864 + b) / 9007199254740992
  }

  normal() {
    if (this.spare !== null) {
      const spare = this.spare
      this.spare = null
      return spare
    }
    let x, y, r
    do {
      x = 2 * this.uniform() - 1
      y = 2 * this.uniform() - 1
      r = x * x + y * y
    } while (r >= 1 || r === 0)
    const scale = Math.sqrt((-2 * Math.log(r)) / r)
    this.spare = scale * x
    return scale * y
  }
}

// Round to the nearest whole number, and a half to the even one, as NumPy and PyTorch do.
export function roundHalfEven(value) {
  const low = Math.floor(value)
  const part = value - low
  if (part !== 0.5) return part < 0.5 ? low : low + 1
  return low % 2 === 0 ? low : low + 1
}

// Return the latent of a seed: `length` numbers, normal or uniform in [-1, 1], in multiples of 2^-12. The rounding hides
// differences in the last bits between logarithms.
export function latent(seed, length, distribution) {
  return latentAndDraw(seed, length, distribution).z
}

// Return the latent of a seed, and the number after it, in [0, 1), which determines its attributes.
export function latentAndDraw(seed, length, distribution) {
  if (!Number.isInteger(seed) || seed < 0 || seed > MAX_SEED) {
    throw new Error(`seed must be between 0 and ${MAX_SEED}: got ${seed}`)
  }
  const random = new RandomState(seed)
  const z = new Float64Array(length)
  for (let k = 0; k < length; k++) {
    const value = distribution === "normal" ? random.normal() : -1 + 2 * random.uniform()
    z[k] = roundHalfEven(value * 4096) / 4096
  }
  return { z, draw: random.uniform() }
}
