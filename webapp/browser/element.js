// The element <digit-forge write="2026-11-24" seed="7">, which writes a text by hand on any page. `python -m models.bundle`
// puts this file, all that it imports and a generator into one script. docs/take-home.md describes its attributes.

import { Generator } from "./generator.js"
import { MAX_SEED, seed } from "./values.js"
import { SIGNS, glyphs, isDigit } from "./writing.js"

const MAX_TEXT = 24
const MARGIN = 4 // pixels around a text
const SPACING = 3 // pixels between two glyphs
const HEIGHT = 28 + 2 * MARGIN // before the first picture
const GLYPH = 15 // usual width, before the first picture
const MAX_SCALE = 64
const LIMITS = { slant: [-90, 90], thickness: [0, 256], width: [0, 256], writer: [0, 1e6] } // as models/views.py has them
const NAMES = ["write", "seed", "ink", "paper", "scale", ...Object.keys(LIMITS)]

const STYLE = `
:host { display: inline-block; vertical-align: middle; }
:host([hidden]) { display: none; }
canvas { display: block; max-width: 100%; height: auto; image-rendering: pixelated; }
p { margin: 0; }
[hidden] { display: none; }
`

// Define the element. `load` returns a promise of the generator file (ArrayBuffer); it is called when the first element
// is on the page, and all elements share the generator.
export function define(load) {
  if (customElements.get("digit-forge")) return
  let generator = null

  class DigitForge extends HTMLElement {
    static observedAttributes = NAMES
    #canvas = document.createElement("canvas")
    #message = document.createElement("p")
    #isWaiting = false
    #isDrawn = false

    constructor() {
      super()
      const sheet = new CSSStyleSheet() // a <style> would need the permission of the page's Content-Security-Policy
      sheet.replaceSync(STYLE)
      const root = this.attachShadow({ mode: "open" })
      root.adoptedStyleSheets = [sheet]
      this.#canvas.setAttribute("role", "img")
      this.#canvas.setAttribute("part", "picture")
      this.#message.setAttribute("role", "alert")
      this.#message.setAttribute("part", "error")
      this.#message.hidden = true
      root.append(this.#canvas, this.#message)
    }

    connectedCallback() {
      this.#update()
    }

    attributeChangedCallback() {
      if (this.isConnected) this.#update()
    }

    // Draw the text when the generator is loaded, once for all changes until then.
    async #update() {
      if (this.#isWaiting) return
      this.#isWaiting = true
      let problem = ""
      try {
        await null // the other attributes that are being set
        const { write, scale } = values(this)
        this.#canvas.setAttribute("aria-label", write)
        if (!this.#isDrawn) this.#resize(write.length * (GLYPH + SPACING) + 2 * MARGIN, HEIGHT, scale)
        generator ??= load().then((content) => new Generator(content))
        this.#draw(await generator)
      } catch (error) {
        problem = error.message
      }
      this.#isWaiting = false
      this.#message.textContent = problem && `digit-forge: ${problem}`
      this.#message.hidden = !problem
      this.#canvas.hidden = Boolean(problem)
      this.dispatchEvent(new Event(problem ? "error" : "load"))
    }

    #draw(loaded) {
      const { write, number, asked, ink, paper, scale } = values(this)
      const { pixels, width, height } = line(glyphs(write, drawn(loaded, write, number, asked)))
      this.#resize(width, height, scale)
      this.#canvas.setAttribute("aria-label", write)
      const context = this.#canvas.getContext("2d")
      const image = context.createImageData(width, height)
      pixels.forEach((level, k) => { image.data[4 * k + 3] = level })
      context.putImageData(image, 0, 0)
      for (const [operation, colour] of [["source-in", ink], ["destination-over", paper]]) {
        this.#canvas.style.color = colour // so that currentColor and var() work, too
        context.globalCompositeOperation = operation
        context.fillStyle = getComputedStyle(this.#canvas).color
        context.fillRect(0, 0, width, height)
      }
      this.#isDrawn = true
    }

    #resize(width, height, scale) {
      this.#canvas.width = width // which also empties it
      this.#canvas.height = height
      this.#canvas.style.width = `${width * scale}px`
    }
  }

  customElements.define("digit-forge", DigitForge)
}

// Return the generator file in a bundle: its first bytes and its weights, both deflated and in base64. The first bytes of
// all weights come first, then the second ones, and so on.
export async function unpacked(head, weights) {
  const [start, planes] = await Promise.all([inflated(head), inflated(weights)])
  const content = new Uint8Array(start.length + planes.length)
  content.set(start)
  const count = planes.length / 4
  for (let k = 0; k < planes.length; k++) content[start.length + 4 * (k % count) + Math.floor(k / count)] = planes[k]
  return content.buffer
}

async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))
  return new Response(stream).arrayBuffer().then((buffer) => new Uint8Array(buffer))
}

// Return the values of an element's attributes. Throws an Error that names the first one that cannot be used.
function values(element) {
  const given = (name, usual) => element.getAttribute(name)?.trim() || usual
  const write = given("write", "")
  if (!write || write.length > MAX_TEXT) throw new Error(`write must have 1 to ${MAX_TEXT} characters: got ${write.length}`)
  const unknown = Array.from(write).find((character) => !isDigit(character) && character !== " " && !SIGNS.has(character))
  if (unknown) throw new Error(`write must be of digits, spaces and ${[...SIGNS.keys()].join(" ")}: got "${unknown}"`)
  if (!Array.from(write).some(isDigit)) throw new Error(`write must have at least one digit: got "${write}"`)
  const number = seed(given("seed", "0"))
  if (number === null) throw new Error(`seed must be a whole number from 0 to ${MAX_SEED}: got "${given("seed")}"`)
  const scale = Number(given("scale", "2"))
  if (!(scale > 0 && scale <= MAX_SCALE)) throw new Error(`scale must be above 0, at most ${MAX_SCALE}: got "${given("scale")}"`)
  const asked = {}
  for (const [name, [low, high]] of Object.entries(LIMITS)) {
    const text = given(name)
    if (text === undefined) continue
    asked[name] = Number(text)
    if (!(asked[name] >= low && asked[name] <= high)) throw new Error(`${name} must be a number from ${low} to ${high}: got "${text}"`)
  }
  const [ink, paper] = [given("ink", "black"), given("paper", "white")]
  for (const [name, colour] of Object.entries({ ink, paper })) {
    if (!CSS.supports("color", colour)) throw new Error(`${name} must be a colour of CSS: got "${colour}"`)
  }
  return { write, number, asked, ink, paper, scale }
}

// Return pictures of the digits of a text, in order; each digit is drawn once.
function drawn(generator, text, number, asked) {
  const digits = Array.from(text).filter(isDigit).map(Number)
  const different = [...new Set(digits)]
  const pixels = new Uint8Array(digits.length * generator.bytes)
  const job = { pictures: different.map((digit) => ({ digit, seed: number })), truncation: 1, asked }
  const once = new Uint8Array(different.length * generator.bytes)
  for (const step of generator.plan(job)) step(once)
  digits.forEach((digit, k) => {
    const from = different.indexOf(digit) * generator.bytes
    pixels.set(once.subarray(from, from + generator.bytes), k * generator.bytes)
  })
  return { pixels, ...generator.shape }
}

// Return glyphs in one line, with a margin: the picture of `written` in models/writing.py.
function line(shown) {
  const height = shown[0].height + 2 * MARGIN
  const width = shown.reduce((sum, glyph) => sum + glyph.width + SPACING, 2 * MARGIN - SPACING)
  const pixels = new Uint8Array(width * height)
  let left = MARGIN
  for (const glyph of shown) {
    for (let row = 0; row < glyph.height; row++) {
      pixels.set(glyph.pixels.subarray(row * glyph.width, (row + 1) * glyph.width), (MARGIN + row) * width + left)
    }
    left += glyph.width + SPACING
  }
  return { pixels, width, height }
}
