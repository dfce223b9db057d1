// The innermost loops of convolutions, in WebAssembly, which calculates two doubles at a time. Each sum is in order and
// no multiplication is fused with its addition, so the numbers are those of the same loops in JavaScript. These draw where
// there is no WebAssembly with SIMD, or where the page's Content-Security-Policy forbids it.
//
// The module is assembled here: see https://webassembly.github.io/spec/core/binary/ for what the bytes mean.

export const BYTES = 8 // of a double
const PAGE = 65536
let isCompiling = true // until the browser has refused to

// Return a memory of WebAssembly, and arrays of doubles in it that have these lengths.
export function arrays(...lengths) {
  const total = lengths.reduce((sum, length) => sum + length, 0)
  const pages = Math.ceil((BYTES * total) / PAGE)
  const memory = globalThis.WebAssembly ? new WebAssembly.Memory({ initial: pages }) : { buffer: new ArrayBuffer(pages * PAGE) }
  let end = 0
  const found = lengths.map((length) => {
    const start = end
    end += BYTES * length
    return new Float64Array(memory.buffer, start, length)
  })
  return [memory, ...found]
}

// Return the address of a number of such an array.
export function address(array, k) {
  return array.byteOffset + BYTES * k
}

// Return a function on a memory that sums `channels` rows of pixels, which lie one after the other in y:
//
//   y[channel][pixel] = start[channel] + sum over taps and planes of
//                       weight[tap][plane][channel] * x[plane][pixel + offsets[tap]]
//
// It is called as (y, row, x, plane, planes, start, offsets, end, weight), all in bytes: y, x, start, offsets and weight
// are addresses, `row` the size of a row of y and a multiple of four doubles, `plane` that of a plane of x, `planes` that
// of all planes, and `end` the address behind the last offset. Offsets are in bytes too, and there is at least one.
export function summing(memory, channels) {
  if (isCompiling) {
    try {
      const compiled = new WebAssembly.Module(assembled(channels))
      return new WebAssembly.Instance(compiled, { page: { memory } }).exports.sum
    } catch {
      isCompiling = false // asking again would only repeat the browser's message
    }
  }
  return loops(memory, channels)
}


// The same function in JavaScript, for one channel or four.
function loops(memory, channels) {
  const numbers = new Float64Array(memory.buffer)
  const sumPixel = channels === 1 ? sumOne : sumFour
  return (...addresses) => {
    const [y, row, x, plane, planes, start, offsets, end, weight] = addresses.map((bytes) => (bytes / BYTES) | 0)
    for (let pixel = 0; pixel < row; pixel++) sumPixel(numbers, y + pixel, row, x + pixel, plane, planes, start, offsets, end, weight)
  }
}

function sumOne(numbers, y, row, x, plane, planes, start, offsets, end, weight) {
  let sum = numbers[start]
  for (let tap = offsets; tap < end; tap++) {
    const first = (x + numbers[tap] / BYTES) | 0
    for (let k = first; k < first + planes; k += plane) sum += numbers[weight++] * numbers[k]
  }
  numbers[y] = sum
}

function sumFour(numbers, y, row, x, plane, planes, start, offsets, end, weight) {
  let [a, b, c, d] = [numbers[start], numbers[start + 1], numbers[start + 2], numbers[start + 3]]
  for (let tap = offsets; tap < end; tap++) {
    const first = (x + numbers[tap] / BYTES) | 0
    const last = first + planes
    for (let k = first; k < last; k += plane, weight += 4) {
      const value = numbers[k]
      a += numbers[weight] * value
      b += numbers[weight + 1] * value
      c += numbers[weight + 2] * value
      d += numbers[weight + 3] * value
    }
  }
  numbers[y] = a
  numbers[y + row] = b
  numbers[y + 2 * row] = c
  numbers[y + 3 * row] = d
}

// --- The module

// Four pixels and all channels are summed at a time: each weight that is read serves four sums, and no sum has to wait
// for another.
function assembled(channels) {
  const [y, row, x, plane, planes, start, offsets, end, weight] = Array(9).keys()
  const [rowEnd, factors, offset, pixels, lastPixels, to] = [9, 10, 11, 12, 13, 14]
  const [left, right, factor] = [15, 16, 17]
  const sums = Array.from({ length: channels }, (_, k) => [18 + 2 * k, 19 + 2 * k])
  const body = [
    set(rowEnd, add(get(y), get(row))),
    loopUntilEqual(y, rowEnd, [
      sums.map((pair, k) => pair.map((sum) => set(sum, loadTwice(start, k)))),
      set(factors, get(weight)),
      set(offset, get(offsets)),
      loopUntilEqual(offset, end, [
        set(pixels, add(get(x), integer(load(offset)))),
        set(lastPixels, add(get(pixels), get(planes))),
        loopUntilEqual(pixels, lastPixels, [
          set(left, loadPair(pixels, 0)),
          set(right, loadPair(pixels, 2)),
          sums.map(([a, b], k) => [
            set(factor, loadTwice(factors, k)),
            set(a, addPairs(get(a), multiplyPairs(get(factor), get(left)))),
            set(b, addPairs(get(b), multiplyPairs(get(factor), get(right)))),
          ]),
          set(factors, add(get(factors), constant(channels * BYTES))),
          set(pixels, add(get(pixels), get(plane))),
        ]),
        set(offset, add(get(offset), constant(BYTES))),
      ]),
      set(to, get(y)),
      sums.map(([a, b]) => [storePair(to, 0, get(a)), storePair(to, 2, get(b)), set(to, add(get(to), get(row)))]),
      set(x, add(get(x), constant(4 * BYTES))),
      set(y, add(get(y), constant(4 * BYTES))),
    ]),
  ]
  const locals = vector([number(to - weight), I32], [number(3 + 2 * channels), PAIR])
  const sections = [
    [1, vector([0x60, vector(...Array(9).fill(I32)), vector()])], // types: a function of nine integers
    [2, vector([text("page"), text("memory"), 0x02, 0x00, number(1)])], // imports
    [3, vector(number(0))], // functions: the type of each
    [7, vector([text("sum"), 0x00, number(0)])], // exports
    [10, vector(sized([locals, body, END]))], // code
  ]
  const header = [..."\0asm\x01\0\0\0"].map((letter) => letter.charCodeAt(0))
  return Uint8Array.from([header, sections.map(([id, content]) => [id, sized(content)])].flat(Infinity))
}

// --- Instructions: each is made from those that calculate its operands. A place counts doubles from an address. A loop
// runs at least once.

const [I32, PAIR, END, SIMD] = [0x7f, 0x7b, 0x0b, 0xfd]
const get = (local) => [0x20, number(local)]
const set = (local, value) => [value, 0x21, number(local)]
const constant = (value) => [0x41, number(value)]
const add = (a, b) => [a, b, 0x6a]
const integer = (value) => [value, 0xaa]
const load = (address) => [get(address), 0x2b, 3, 0]
const loadPair = (address, place) => [get(address), SIMD, number(0), 3, number(place * BYTES)]
const loadTwice = (address, place) => [get(address), SIMD, number(10), 3, number(place * BYTES)]
const storePair = (address, place, value) => [get(address), value, SIMD, number(11), 3, number(place * BYTES)]
const addPairs = (a, b) => [a, b, SIMD, number(0xf0)]
const multiplyPairs = (a, b) => [a, b, SIMD, number(0xf2)]
const loopUntilEqual = (a, b, body) => [0x03, 0x40, body, get(a), get(b), 0x47, 0x0d, number(0), END]

// --- Encoding

// Return a number below 2^14 as LEB128; one that a constant holds must be below 64, because there bit 6 is a sign.
function number(value) {
  return value < 128 ? [value] : [(value & 127) | 128, value >> 7]
}

function sized(content) {
  const bytes = content.flat(Infinity)
  return [number(bytes.length), bytes]
}

function vector(...parts) {
  return [number(parts.length), ...parts]
}

function text(name) {
  return sized([...name].map((letter) => letter.charCodeAt(0)))
}
