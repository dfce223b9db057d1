// Layers of the generators, in doubles. Each function makes a layer from its weights and returns a function that writes
// into a buffer of its own: nothing is allocated while drawing. Images are (C, H, W) in one array, as in PyTorch.

// y = W x + b, W (outputs, inputs).
export function dense(weight, bias, inputs, outputs) {
  const y = new Float64Array(outputs)
  return (x) => {
    for (let o = 0; o < outputs; o++) {
      const row = o * inputs
      let sum = bias ? bias[o] : 0
      for (let i = 0; i < inputs; i++) sum += weight[row + i] * x[i]
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
  const places = [{ taps, step: 1, row: 0, column: 0 }]
  return gathered(reordered(weight, inputs, outputs, kernel, false), bias, inputs, outputs, size, size, places)
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
  const flipped = reordered(weight, inputs, outputs, kernel, true)
  return gathered(flipped, bias, inputs, outputs, size, size * stride, places)
}

// Return weights as (kernel * kernel, inputs, outputs): the innermost loop runs over outputs.
function reordered(weight, inputs, outputs, kernel, isTransposed) {
  const area = kernel * kernel
  const found = new Float64Array(area * inputs * outputs)
  for (let i = 0; i < inputs; i++) {
    for (let o = 0; o < outputs; o++) {
      const from = (isTransposed ? i * outputs + o : o * inputs + i) * area
      for (let tap = 0; tap < area; tap++) found[(tap * inputs + i) * outputs + o] = weight[from + tap]
    }
  }
  return found
}

// For each output pixel, sum over taps and input channels. The image is padded once and turned to (H, W, C), so that all
// inner loops run over neighbouring numbers without a branch. Four output channels are summed at a time.
function gathered(weight, bias, inputs, outputs, size, outSize, places) {
  const reach = Math.max(...places.flatMap(({ taps }) => taps.flatMap(([i, j]) => [Math.abs(i), Math.abs(j)])))
  const width = size + 2 * reach
  const padded = new Float64Array(width * width * inputs)
  const y = new Float64Array(outputs * outSize * outSize)
  const plan = places.map(({ taps, step, row, column }) => {
    // One dense matrix for each place: (outputs, taps * inputs).
    const length = taps.length * inputs
    const matrix = new Float64Array(outputs * length)
    taps.forEach(([, , tap], t) => {
      for (let i = 0; i < inputs; i++) {
        for (let o = 0; o < outputs; o++) matrix[o * length + t * inputs + i] = weight[(tap * inputs + i) * outputs + o]
      }
    })
    const offsets = taps.map(([i, j]) => ((i + reach) * width + (j + reach)) * inputs)
    return { matrix, length, offsets, step, row, column, patch: new Float64Array(length) }
  })
  return (x) => {
    for (let i = 0; i < inputs; i++) {
      for (let r = 0; r < size; r++) {
        let from = (i * size + r) * size
        let to = ((r + reach) * width + reach) * inputs + i
        for (let c = 0; c < size; c++, to += inputs) padded[to] = x[from++]
      }
    }
    for (const { matrix, length, offsets, step, row, column, patch } of plan) {
      for (let r = 0; r < size; r++) {
        for (let c = 0; c < size; c++) {
          const start = (r * width + c) * inputs
          let p = 0
          for (let t = 0; t < offsets.length; t++) {
            const from = start + offsets[t]
            for (let i = 0; i < inputs; i++) patch[p++] = padded[from + i]
          }
          const at = (r * step + row) * outSize + c * step + column
          multiply(matrix, patch, length, outputs, bias, y, at, outSize * outSize)
        }
      }
    }
    return y
  }
}

// Write matrix (outputs, length) times patch, plus bias, to y[at], y[at + stride], ...
function multiply(matrix, patch, length, outputs, bias, y, at, stride) {
  let o = 0
  for (; o + 4 <= outputs; o += 4) {
    let a = bias ? bias[o] : 0
    let b = bias ? bias[o + 1] : 0
    let c = bias ? bias[o + 2] : 0
    let d = bias ? bias[o + 3] : 0
    let m = o * length
    for (let k = 0; k < length; k++, m++) {
      const value = patch[k]
      a += matrix[m] * value
      b += matrix[m + length] * value
      c += matrix[m + 2 * length] * value
      d += matrix[m + 3 * length] * value
    }
    y[at + o * stride] = a
    y[at + (o + 1) * stride] = b
    y[at + (o + 2) * stride] = c
    y[at + (o + 3) * stride] = d
  }
  for (; o < outputs; o++) {
    let sum = bias ? bias[o] : 0
    const m = o * length
    for (let k = 0; k < length; k++) sum += matrix[m + k] * patch[k]
    y[at + o * stride] = sum
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
