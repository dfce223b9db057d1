// Layers of the generators, in doubles. Each function makes a layer from its weights and returns a function that writes
// into a buffer of its own: nothing is allocated while drawing. Images are (C, H, W) in one array, as in PyTorch.

import { BYTES, address, arrays, summing } from "./sums.js"

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

// For each output pixel, sum over taps and input channels; `at` gives the place of a weight. Nearly all the time is spent
// here. Each channel lies in a plane with zeros around the image, so that no tap needs a branch; the zeros behind a line
// of the image are also those before the next one.
function gathered(weight, at, bias, inputs, outputs, size, outSize, places) {
  const reach = Math.max(...places.flatMap(({ taps }) => taps.flatMap(([i, j]) => [Math.abs(i), Math.abs(j)])))
  const width = size + reach
  const before = reach * (width + 1)
  const row = Math.ceil((size * width) / 4) * 4 // sums of a channel; some lie between the lines of the image
  const plane = before + row + before
  const counts = places.map(({ taps }) => taps.length)
  const [memory, x, sums, start, ...rest] = arrays(
    ...[inputs * plane, outputs * row, outputs],
    ...counts,
    ...counts.map((count) => outputs * count * inputs),
  )
  if (bias) {
    check(bias, outputs)
    start.set(bias)
  }
  const functions = { 1: summing(memory, 1), 4: summing(memory, 4) }
  const plan = places.map(({ taps, step, row: down, column: across }, k) => {
    const [offsets, matrix] = [rest[k], rest[places.length + k]]
    offsets.set(taps.map(([i, j]) => BYTES * (i * width + j)))
    const calls = []
    let m = 0
    for (let o = 0; o < outputs;) {
      const channels = o + 4 <= outputs ? 4 : 1
      const values = [
        ...[address(sums, o * row), BYTES * row],
        ...[address(x, before), BYTES * plane, BYTES * plane * inputs],
        ...[address(start, o), address(offsets, 0), address(offsets, taps.length), address(matrix, m)],
      ]
      calls.push(() => functions[channels](...values))
      for (const [, , tap] of taps) {
        for (let i = 0; i < inputs; i++) for (let n = 0; n < channels; n++) matrix[m++] = weight[at(o + n, i, tap)]
      }
      o += channels
    }
    return { calls, step, first: down * outSize + across }
  })
  const y = new Float64Array(outputs * outSize ** 2)
  return (image) => {
    let from = 0
    for (let i = 0; i < inputs; i++) {
      for (let r = 0; r < size; r++) {
        const to = i * plane + before + r * width
        for (let c = 0; c < size; c++) x[to + c] = image[from++]
      }
    }
    for (const { calls, step, first } of plan) {
      for (const sum of calls) sum()
      for (let o = 0; o < outputs; o++) {
        for (let r = 0; r < size; r++) {
          const from = o * row + r * width
          const to = first + (o * outSize + r * step) * outSize
          for (let c = 0; c < size; c++) y[to + c * step] = sums[from + c]
        }
      }
    }
    return y
  }
}

// Layer normalization of the whole image, then a gain and a bias per channel that the class row c mixes: (columns of c, C).
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
