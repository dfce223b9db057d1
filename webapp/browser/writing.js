// A text in handwriting: its digits, the signs between them, and its colours. See models/writing.py, which does the same
// in the same numbers.

import { roundHalfEven } from "./random.js"

export const SIGNS = new Map(Object.entries({
  ".": [[14, 22.5, 14, 22.5]],
  ",": [[14.5, 22, 13, 26]],
  ":": [[14, 11, 14, 11], [14, 20, 14, 20]],
  "-": [[10.5, 14.5, 17.5, 14]],
  "/": [[9, 24.5, 19, 3.5]],
  "+": [[9.5, 14.5, 18.5, 14], [14, 10, 14, 19]],
}))
const SIDE = 28
const SPACE = 8
const USUAL_THICKNESS = 3
const THICKNESS_FACTOR = 3
const SOFT = 1.5
const VISIBLE = 24

export function isDigit(character) { return character >= "0" && character <= "9" }

// Return the glyph of each character of a text: { pixels, height, width }, with grey levels row by row. `pictures` are
// those of its digits, in order.
export function glyphs(text, { pixels, height, width }) {
  const area = height * width
  const digits = Array.from({ length: pixels.length / area }, (_, k) => ({ pixels: pixels.subarray(k * area, (k + 1) * area), height, width }))
  const thick = thickness(digits)
  let next = 0
  return Array.from(text, (character) => {
    if (isDigit(character)) return cropped(digits[next++])
    if (SIGNS.has(character)) return cropped(sign(character, height, thick))
    const space = Math.floor((SPACE * height) / SIDE)
    return { pixels: new Uint8Array(height * space), height, width: space }
  })
}

function thickness(digits) {
  let ink = 0
  let outline = 0
  for (const { pixels, height, width } of digits) {
    const at = (y, x) => (y < 0 || x < 0 || y >= height || x >= width ? 0 : pixels[y * width + x])
    for (let y = 0; y <= height; y++) {
      for (let x = 0; x <= width; x++) {
        ink += at(y, x)
        outline += Math.abs(at(y, x) - at(y - 1, x)) + Math.abs(at(y, x) - at(y, x - 1))
      }
    }
  }
  return outline ? (THICKNESS_FACTOR * ink) / outline : USUAL_THICKNESS
}

function sign(character, side, thick) {
  const unit = side / SIDE
  const ink = new Float64Array(side * side)
  for (const segment of SIGNS.get(character)) {
    const [x0, y0, x1, y1] = segment.map((end) => unit * end)
    const [dx, dy] = [x1 - x0, y1 - y0]
    const squares = dx * dx + dy * dy
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < side; column++) {
        const [x, y] = [column + 0.5, row + 0.5]
        const t = squares ? clamp(((x - x0) * dx + (y - y0) * dy) / squares) : 0
        const awayX = x - (x0 + t * dx)
        const awayY = y - (y0 + t * dy)
        const distance = Math.sqrt(awayX * awayX + awayY * awayY)
        const k = row * side + column
        ink[k] = Math.max(ink[k], clamp((thick / 2 - distance) / SOFT + 0.5))
      }
    }
  }
  return { pixels: Uint8Array.from(ink, (value) => roundHalfEven(255 * value)), height: side, width: side }
}

function clamp(value) { return Math.min(Math.max(value, 0), 1) }

// Return a glyph without the columns left and right of its ink; unchanged if it has none.
function cropped({ pixels, height, width }) {
  const columns = Array.from({ length: width }, (_, x) => x).filter((x) => {
    for (let y = 0; y < height; y++) if (pixels[y * width + x] >= VISIBLE) return true
    return false
  })
  if (!columns.length) return { pixels, height, width }
  const [first, end] = [columns[0], columns.at(-1) + 1]
  const rows = Array.from({ length: height }, (_, y) => [...pixels.subarray(y * width + first, y * width + end)])
  return { pixels: Uint8Array.from(rows.flat()), height, width: end - first }
}

// Return the characters of each line of a text, by their numbers, in lines of at most `width` pixels. See `rows` in
// models/writing.py.
export function rows(text, glyphs, spacing, width) {
  const shown = (line) => {
    let end = line.length
    while (end && text[line[end - 1]] === " ") end--
    return line.slice(0, end)
  }
  const isLong = (line) => shown(line).reduce((sum, k) => sum + glyphs[k].width + spacing, -spacing) > width
  const lines = [[]]
  for (let k = 0; k < text.length; k++) {
    lines.at(-1).push(k)
    while (isLong(lines.at(-1)) && lines.at(-1).length > 1) {
      const full = lines.pop()
      const last = full.slice(0, -1).findLastIndex((each) => !isDigit(text[each]))
      const end = last < 0 ? full.length - 1 : last + 1
      lines.push(full.slice(0, end), full.slice(end))
    }
  }
  return lines.map(shown)
}

// Return red, green and blue of a colour such as #1f3fa0.
export function rgb(hex) {
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16))
}

// Paint a glyph onto a canvas in the colours of ink and paper, each as red, green and blue.
export function paintGlyph(canvas, { pixels, height, width }, ink, paper) {
  if (canvas.width !== width) canvas.width = width
  if (canvas.height !== height) canvas.height = height
  const context = canvas.getContext("2d")
  const image = context.createImageData(width, height)
  pixels.forEach((level, k) => {
    for (let c = 0; c < 3; c++) image.data[4 * k + c] = Math.floor((paper[c] * (255 - level) + ink[c] * level + 127) / 255)
    image.data[4 * k + 3] = 255
  })
  context.putImageData(image, 0, 0)
}
