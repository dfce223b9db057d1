// Layers of the generators, in doubles. Each function makes a layer from its weights and returns a function that writes
// into a buffer of its own: nothing is allocated while drawing. Images are (C, H, W) in one array, as in PyTorch.

// y = W x + b, W (outputs, inputs). Four outputs are summed at a time, because one sum has to wait for each addition.
export function dense(weight, bias, inputs, outputs) {
  check(weight, outputs * inputs)
  const start = bias ?? new Float64Array(outputs)
  check(start, outputs)
  const y = new Float64Array(outputs)
  return (x) => {
    let o = 0
    for (; o + 4 <= outputs; o += 4) {
      let [a, b, c, d] = [start[o], start[o + 1], start[o + 2], start[o + 3]]
      let m = o * inputs
      for (let i = 0; i < inputs; i++, m++) {
        const value = x[i]
        a += weight[m] * value
        b += weight[m + inputs] * value
        c += weight[m + 2 * inputs] * value
        d += weight[m + 3 * inputs] * value
      }
      y[o] = a
      y[o + 1] = b
      y[o + 2] = c
      y[o + 3] = d
    }
    for (; o < outputs; o++) {
      let sum = start[o]
      for (let i = 0; i < inputs; i++) sum += weight[o * inputs + i] * x[i]
      y[o] = sum
    }
    return y
  }
}

// Convolution with stride 1; weight (outputs, inputs, kernel, kernel); `before` pixels are padded at the left and top,
// and as many behind as keep the size.
export function conv(weight, bias, inputs, outputs, size, kernel, before = (kernel - 1) >> 1) {
  const taps = []
  for (let i = 0; i < kernel; i++) for (let j = 0; j < kernel; j++) taps.push([i - before, j - before, i * kernel + j])
  const at = (o, i, tap) => (o * inputs + i) * kernel ** 2 + tap
  check(weight, outputs * inputs * kernel ** 2)
  return gathered(weight, at, bias, inputs, outputs, size, size, [{ taps, step: 1, row: 0, column: 0 }])
}

// Transposed convolution to `stride` times the size; weight (inputs, outputs, kernel, kernel); `crop` pixels are cut off
// at the left and top of PyTorch's full output, and the rest behind. Output pixels of the same position modulo the
// stride see the same taps, so each such set of pixels is an ordinary convolution.
export function convTranspose(weight, bias, inputs, outputs, size, kernel, stride, crop) {
  const places = []
  for (let row = 0; row < stride; row++) {
    for (let column = 0; column < stride; column++) {
      const taps = []
      for (let i = 0; i < kernel; i++) {
        for (let j = 0; j < kernel; j++) {
          const down = row + crop - i
          const across = column + crop - j
          if (down % stride === 0 && across % stride === 0) taps.push([down / stride, across / stride, i * kernel + j])
        }
      }
      places.push({ taps, step: stride, row, column })
    }
  }
  const at = (o, i, tap) => (i * outputs + o) * kernel ** 2 + tap
  check(weight, outputs * inputs * kernel ** 2)
  return gathered(weight, at, bias, inputs, outputs, size, size * stride, places)
}

// For each output pixel, sum over taps and input channels; `at` gives the place of a weight. The image is padded once
// and turned to (H, W, C), so that the innermost loops run over neighbouring numbers without a branch.
function gathered(weight, at, bias, inputs, outputs, size, outSize, places) {
  const start = bias ?? new Float64Array(outputs)
  check(start, outputs)
  const reach = Math.max(...places.flatMap(({ taps }) => taps.flatMap(([i, j]) => [Math.abs(i), Math.abs(j)])))
  const width = size + 2 * reach
  const padded = new Float64Array(width * width * inputs)
  const y = new Float64Array(outputs * outSize * outSize)
  const plan = places.map(({ taps, step, row, column }) => {
    const from = [] // where the window of each pixel begins in `padded`
    const to = [] // where the pixel of the first channel lies in `y`
    for (let r = 0; r < size; r++) {
      for (let c = 0; c < size; c++) {
        from.push((r * width + c) * inputs)
        to.push((r * step + row) * outSize + c * step + column)
      }
    }
    const offsets = taps.map(([i, j]) => ((i + reach) * width + (j + reach)) * inputs)
    const matrix = inFours(weight, at, taps, inputs, outputs)
    return [matrix, start, Int32Array.from(offsets), Int32Array.from(from), Int32Array.from(to)]
  })
  return (x) => {
    for (let i = 0; i < inputs; i++) {
      for (let r = 0; r < size; r++) {
        let from = (i * size + r) * size
        let to = ((r + reach) * width + reach) * inputs + i
        for (let c = 0; c < size; c++, to += inputs) padded[to] = x[from++]
      }
    }
    for (const [matrix, start, offsets, from, to] of plan) {
      multiply(matrix, start, offsets, from, to, padded, y, inputs, outputs, outSize * outSize)
    }
    return y
  }
}

// Return the weights of some taps in the order in which `multiply` reads them: (outputs / 4, taps, inputs, 4), and the
// outputs that are left as (outputs, taps, inputs).
function inFours(weight, at, taps, inputs, outputs) {
  const found = new Float64Array(outputs * taps.length * inputs)
  let k = 0
  for (let o = 0; o < outputs;) {
    const number = o + 4 <= outputs ? 4 : 1
    for (const [, , tap] of taps) {
      for (let i = 0; i < inputs; i++) for (let n = 0; n < number; n++) found[k++] = weight[at(o + n, i, tap)]
    }
    o += number
  }
  return found
}

// Nearly all the time is spent here. Two pixels and four channels are summed at a time: each weight that is read serves
// two sums, each value four, and no sum waits for another. The last pixel of an odd number is drawn twice.
function multiply(matrix, start, offsets, from, to, x, y, inputs, outputs, area) {
  let o = 0
  for (; o + 4 <= outputs; o += 4) {
    for (let pixel = 0; pixel < from.length; pixel += 2) {
      const other = Math.min(pixel + 1, from.length - 1)
      const apart = from[other] - from[pixel]
      let a = start[o], b = start[o + 1], c = start[o + 2], d = start[o + 3]
      let e = a, f = b, g = c, h = d
      let m = o * offsets.length * inputs
      for (let t = 0; t < offsets.length; t++) {
        const first = from[pixel] + offsets[t]
        for (let k = first; k < first + inputs; k++, m += 4) {
          const one = x[k]
          const two = x[k + apart]
          const p = matrix[m], q = matrix[m + 1], r = matrix[m + 2], s = matrix[m + 3]
          a += p * one
          b += q * one
          c += r * one
          d += s * one
          e += p * two
          f += q * two
          g += r * two
          h += s * two
        }
      }
      let k = to[pixel] + o * area
      y[k] = a
      y[k + area] = b
      y[k + 2 * area] = c
      y[k + 3 * area] = d
      k = to[other] + o * area
      y[k] = e
      y[k + area] = f
      y[k + 2 * area] = g
      y[k + 3 * area] = h
    }
  }
  for (; o < outputs; o++) {
    for (let pixel = 0; pixel < from.length; pixel++) {
      let sum = start[o]
      let m = o * offsets.length * inputs
      for (let t = 0; t < offsets.length; t++) {
        const first = from[pixel] + offsets[t]
        for (let k = first; k < first + inputs; k++, m++) sum += matrix[m] * x[k]
      }
      y[to[pixel] + o * area] = sum
    }
  }
}

// Layer normalization of the whole image, then a gain and a bias per channel that the class row c mixes: (classes, C).
export function classLayerNorm(gain, bias, classes, channels, area) {
  const y = new Float64Array(channels * area)
  return (x, c) => {
    const count = channels * area
    let mean = 0
    for (let k = 0; k < count; k++) mean += x[k]
    mean /= count
    let variance = 0
    for (let k = 0; k < count; k++) variance += (x[k] - mean) * (x[k] - mean)
    const scale = 1 / Math.sqrt(variance / count + 1e-5)
    for (let channel = 0; channel < channels; channel++) {
      let g = 0
      let b = 0
      for (let label = 0; label < classes; label++) {
        g += c[label] * gain[label * channels + channel]
        b += c[label] * bias[label * channels + channel]
      }
      for (let k = channel * area; k < (channel + 1) * area; k++) y[k] = b + (x[k] - mean) * scale * g
    }
    return y
  }
}

// BatchNorm with its running statistics.
export function batchNorm(weights, name, channels, area, epsilon) {
  const [gain, bias, mean, variance] = ["weight", "bias", "running_mean", "running_var"].map((part) => weights(`${name}.${part}`))
  const scale = gain.map((value, k) => value / Math.sqrt(variance[k] + epsilon))
  const y = new Float64Array(channels * area)
  return (x) => {
    for (let channel = 0; channel < channels; channel++) {
      for (let k = channel * area; k < (channel + 1) * area; k++) y[k] = (x[k] - mean[channel]) * scale[channel] + bias[channel]
    }
    return y
  }
}

// Functions of each number, which change the array itself.
export function relu(x) {
  for (let k = 0; k < x.length; k++) if (x[k] < 0) x[k] = 0
  return x
}

export function leakyRelu(x) {
  for (let k = 0; k < x.length; k++) if (x[k] < 0) x[k] *= 0.2
  return x
}

export function tanh(x) {
  for (let k = 0; k < x.length; k++) x[k] = Math.tanh(x[k])
  return x
}

// The sigmoid, mapped from [0, 1] to [-1, 1].
export function wideSigmoid(x) {
  for (let k = 0; k < x.length; k++) x[k] = (1 / (1 + Math.exp(-x[k]))) * 2 - 1
  return x
}

function check(numbers, length) {
  if (numbers.length !== length) throw new Error(`a layer has ${numbers.length} numbers where ${length} are needed`)
}
