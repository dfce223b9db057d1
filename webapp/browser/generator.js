// A generator in the browser: the file that the server sends, and the networks of models/*.py in doubles, which give the
// same pixels as the server to the last bit.

import { AttributeTable } from "./attributes.js"
import { latentAndDraw, roundHalfEven } from "./random.js"
import { cornerWeights, lerp, mix, oneHot, plane, slerp, truncate } from "./latents.js"
import { batchNorm, classLayerNorm, conv, convTranspose, dense, leakyRelu, relu, scaled, tanh, wideSigmoid } from "./layers.js"

const FORMAT = "digitforge-generator-1"
const HAND = 32 // numbers that stand for a writer
const MAX_LATENTS = 4000 // of recent seeds

export class Generator {
  // `content` is the ArrayBuffer of a generator file. Throws an Error that says what is wrong with it.
  constructor(content) {
    const { metadata, tensor } = readSafetensors(content)
    if (metadata.format !== FORMAT) throw new Error(`this is no generator file of this version (${metadata.format})`)
    this.config = readConfig(metadata.model)
    this.config.attributes ??= [] // files of earlier versions
    this.config.writers ??= 0
    this.table = this.config.attributes.length ? readTable(metadata.attributes) : null
    this.writers = this.config.writers ? readWriters(metadata.writers, this.config.writers) : []
    const build = FAMILIES.get(this.config.architecture)
    if (!build) throw new Error(`networks of the family ${this.config.architecture} are not known here`)
    this.forward = build(this.config, tensor)
    this.known = new Map()
    const { img_size: size, img_channels: channels } = this.config
    this.shape = { height: size, width: size, channels }
    this.bytes = size * size * channels
  }

  // Return the latent z of a seed, and the number in [0, 1) that determines its attributes.
  numbers(seed) {
    let found = this.known.get(seed)
    if (!found) {
      if (this.known.size >= MAX_LATENTS) this.known.clear()
      found = latentAndDraw(seed, this.config.z_dim, this.config.z_distribution)
      this.known.set(seed, found)
    }
    return found
  }

  // Return the class row of a digit and a seed: one-hot, and the scores of the attributes or a one-hot writer. See
  // `LoadedGenerator.class_rows` in models/generator_file.py.
  row({ digit, seed }, asked = {}, truncation = 1) {
    const row = oneHot(digit, this.config.num_classes)
    if (this.table) return Float64Array.of(...row, ...this.table.draw(this.numbers(seed).draw, digit, asked, truncation))
    const { writer, ...others } = asked
    const [unknown] = Object.keys(this.writers.length ? others : asked)
    if (unknown) throw new Error(`this generator draws without ${unknown}`)
    return this.writers.length ? Float64Array.of(...row, ...this.writerColumns(writer ?? null)) : row
  }

  // Return the one-hot row of a writer; all 0 for null, who is anyone.
  writerColumns(number) {
    const row = new Float64Array(this.writers.length)
    const index = this.writers.indexOf(number)
    if (number !== null && index < 0) throw new Error(`this generator does not know writer ${number}`)
    if (number !== null) row[index] = 1
    return row
  }

  // Write the picture of a latent and a class row to `pixels` from `start` on: uint8, channels last.
  draw(z, c, pixels, start = 0) {
    const images = this.forward(z, c)
    const { height, width, channels } = this.shape
    const area = height * width
    for (let channel = 0; channel < channels; channel++) {
      for (let k = 0; k < area; k++) {
        const value = Math.min(Math.max(images[channel * area + k], -1), 1)
        pixels[start + k * channels + channel] = roundHalfEven((value + 1) * 127.5)
      }
    }
  }

  // Return functions that each draw one picture of a job into an array. A job is one of
  // { pictures: [{ digit, seed }, ...], truncation }, { plane: { digit, corners, x, y }, truncation } and
  // { path: { stops: [{ digit, seed }, ...], kind, frames } }, where `frames` counts those of one leg. `asked`, if a job
  // has it, holds values of attributes, or the number of a writer, by name.
  plan(job) {
    const { truncation, asked } = job
    const at = (inputs, k) => (pixels) => this.draw(...inputs(), pixels, k * this.bytes)
    const latent = ({ seed }) => truncate(this.numbers(seed).z, truncation)
    const row = (picture) => this.row(picture, asked, truncation)
    if (job.pictures) return job.pictures.map((picture, k) => at(() => [latent(picture), row(picture)], k))
    if (job.plane) {
      const { digit, corners, x, y } = job.plane
      const rows = () => corners.map((seed) => row({ digit, seed }))
      const z = () => truncate(plane(corners.map((seed) => this.numbers(seed).z), x, y), truncation)
      return [at(() => [z(), mix(rows(), cornerWeights(x, y))], 0)]
    }
    const { stops, kind, frames } = job.path
    const between = kind === "slerp" ? slerp : lerp
    const steps = [at(() => [this.numbers(stops[0].seed).z, row(stops[0])], 0)]
    for (let leg = 0; leg + 1 < stops.length; leg++) {
      const [from, to] = [stops[leg], stops[leg + 1]]
      for (let k = 1; k < frames; k++) {
        const t = k / (frames - 1)
        const z = () => between(this.numbers(from.seed).z, this.numbers(to.seed).z, t)
        steps.push(at(() => [z(), lerp(row(from), row(to), t)], steps.length))
      }
    }
    return steps
  }
}

// --- The file

function readTable(text) {
  try {
    return new AttributeTable(text)
  } catch {
    throw new Error("the file does not say how its attributes vary")
  }
}

function readWriters(text, count) {
  let writers = null
  try {
    writers = JSON.parse(text)
  } catch { /* as if it were missing */ }
  if (writers?.length !== count) throw new Error("the file does not name its writers")
  return writers
}

// Return the metadata of a safetensors file, and a function from a tensor's name to its numbers as doubles.
function readSafetensors(content) {
  let header, start
  try {
    start = 8 + Number(new DataView(content).getBigUint64(0, true))
    header = JSON.parse(new TextDecoder().decode(new Uint8Array(content, 8, start - 8)))
  } catch {
    throw new Error("this is no safetensors file, or a damaged one")
  }
  const tensor = (name) => {
    const entry = header[name]
    if (!entry) throw new Error(`the file has no tensor ${name}`)
    if (entry.dtype !== "F32") throw new Error(`the tensor ${name} is ${entry.dtype}, not F32`)
    const [from, to] = entry.data_offsets
    if (start + to > content.byteLength) throw new Error("the file is cut off")
    const length = entry.shape.reduce((product, side) => product * side, 1)
    if (to - from !== 4 * length) throw new Error(`the tensor ${name} has ${to - from} bytes, not ${4 * length}`)
    return Float64Array.from(new Float32Array(content.slice(start + from, start + to)))
  }
  return { metadata: header?.__metadata__ ?? {}, tensor }
}

function readConfig(text) {
  try {
    return JSON.parse(text)
  } catch {
    throw new Error("the file does not say what network its weights belong to")
  }
}

// --- Families: the forward passes of models/*.py. Each returns a function (z, c) -> image (C, H, W) in [-1, 1].

const FAMILIES = new Map(Object.entries({ forge, mlp, dcgan, dropout_gan: dropoutGan, conv_cgan: convCgan }))

function forge(config, w) {
  const { z_dim: zDim, num_classes: classes, attributes, writers, img_size: size, img_channels: channels } = config
  const { g_widths: [wide, narrow, fine], g_gain: gain = 1 } = config
  const base = size / 4
  const hands = writers ? dense(w("hands.weight"), null, writers, HAND) : null
  const columns = classes + attributes.length + (hands ? HAND : 0)
  const embed = classes ? dense(w("embed.weight"), null, columns, zDim) : null
  const inputs = joined(zDim, classes ? zDim : 0)
  const fc = dense(w("fc.weight"), w("fc.bias"), classes ? 2 * zDim : zDim, wide * base ** 2)
  const norm = (name, width, side) => classLayerNorm(w(`${name}.gain`), w(`${name}.bias`), Math.max(columns, 1), width, side ** 2)
  const norm1 = norm("norm1", wide, base)
  const conv1 = conv(w("conv1.weight"), w("conv1.bias"), wide, wide, base, 3)
  const norm2 = norm("norm2", wide, base)
  const up1 = convTranspose(w("up1.weight"), w("up1.bias"), wide, narrow, base, 4, 2, 1)
  const norm3 = norm("norm3", narrow, 2 * base)
  const conv2 = conv(w("conv2.weight"), w("conv2.bias"), narrow, narrow, 2 * base, 3)
  const norm4 = norm("norm4", narrow, 2 * base)
  const up2 = convTranspose(w("up2.weight"), w("up2.bias"), narrow, fine ?? channels, 2 * base, 4, 2, 1)
  const norm5 = fine ? norm("norm5", fine, size) : null
  const conv3 = fine ? conv(w("conv3.weight"), w("conv3.bias"), fine, channels, size, 3) : null
  const one = new Float64Array([1])
  return (z, c) => {
    if (hands) c = Float64Array.of(...c.subarray(0, classes), ...hands(c.subarray(classes)))
    const row = classes ? c : one
    let x = relu(norm1(fc(inputs(z, embed?.(c))), row))
    x = relu(norm2(conv1(x), row))
    x = relu(norm3(up1(x), row))
    x = up2(relu(norm4(conv2(x), row)))
    if (fine) x = conv3(relu(norm5(x, row)))
    return scaled(tanh(x), gain)
  }
}

function mlp({ z_dim: zDim, num_classes: classes, img_size: size, img_channels: channels, g_widths: widths }, w) {
  const embed = classes ? dense(w("embed.weight"), w("embed.bias"), classes, zDim) : null
  const inputs = joined(zDim, classes ? zDim : 0)
  const all = [classes ? 2 * zDim : zDim, ...widths]
  const hidden = widths.map((width, k) => dense(w(`hidden.${k}.weight`), w(`hidden.${k}.bias`), all[k], width))
  const norms = widths.map((width, k) => batchNorm(w, `norms.${k}`, width, 1, 1e-3))
  const out = dense(w("out.weight"), w("out.bias"), all.at(-1), channels * size ** 2)
  return (z, c) => {
    let x = inputs(z, embed?.(c))
    hidden.forEach((layer, k) => { x = norms[k](leakyRelu(layer(x))) })
    return tanh(out(x))
  }
}

function dcgan({ z_dim: zDim, num_classes: classes, img_size: size, img_channels: channels, g_widths: [wide, narrow] }, w) {
  const base = size / 4
  const inputs = joined(zDim, classes)
  // From one pixel, a transposed convolution is a dense layer.
  const first = transposed(w("up1.weight"), zDim + classes, wide * base ** 2)
  const up1 = dense(first, null, zDim + classes, wide * base ** 2)
  const norm1 = batchNorm(w, "norm1", wide, base ** 2, 1e-5)
  const up2 = convTranspose(w("up2.weight"), null, wide, narrow, base, 4, 2, 1)
  const norm2 = batchNorm(w, "norm2", narrow, (2 * base) ** 2, 1e-5)
  const up3 = convTranspose(w("up3.weight"), null, narrow, channels, 2 * base, 4, 2, 1)
  return (z, c) => tanh(up3(relu(norm2(up2(relu(norm1(up1(inputs(z, c)))))))))
}

function dropoutGan({ z_dim: zDim, img_size: size, img_channels: channels, g_widths: [foundation, middle, last] }, w) {
  const base = size / 4
  const fc = dense(w("fc.weight"), w("fc.bias"), zDim, foundation * base ** 2)
  const up1 = convTranspose(w("up1.weight"), w("up1.bias"), foundation, middle, base, 4, 2, 1)
  const up2 = convTranspose(w("up2.weight"), w("up2.bias"), middle, last, 2 * base, 4, 2, 1)
  const out = conv(w("out.weight"), w("out.bias"), last, channels, size, 7)
  return (z) => wideSigmoid(out(leakyRelu(up2(leakyRelu(up1(leakyRelu(fc(z))))))))
}

function convCgan({ z_dim: zDim, num_classes: classes, img_size: size, img_channels: channels, g_widths: widths }, w) {
  const inputs = joined(zDim, classes)
  const all = [...widths, channels]
  const fc = dense(w("fc.weight"), w("fc.bias"), zDim + classes, widths[0] * (size / 4) ** 2)
  let side = size / 4
  const layers = [2, 2, 1, 1].map((stride, k) => {
    const norm = batchNorm(w, `norms.${k}`, all[k], side ** 2, 1e-3)
    const up = convTranspose(w(`convs.${k}.weight`), w(`convs.${k}.bias`), all[k], all[k + 1], side, 5, stride, (5 - stride) >> 1)
    side *= stride
    return (x) => up(relu(norm(x)))
  })
  return (z, c) => wideSigmoid(layers.reduce((x, layer) => layer(x), fc(inputs(z, c))))
}

// Return a function that puts two arrays one after the other.
function joined(first, second) {
  const both = new Float64Array(first + second)
  return (a, b) => {
    both.set(a)
    if (second) both.set(b, first)
    return both
  }
}

// Return a matrix (rows, columns) as (columns, rows).
function transposed(matrix, rows, columns) {
  const found = new Float64Array(matrix.length)
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) found[c * rows + r] = matrix[r * columns + c]
  return found
}
