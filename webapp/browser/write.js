// The Write page: a text in handwriting, which is drawn while it is typed. A digit that is chosen is written anew. The
// browser holds the state and draws it at once; the server hears of it when the visitor lets go.

import { Actions } from "./actions.js"
import { DrawingPage, NEVER, REPORT_AFTER } from "./drawing_page.js"
import { DIGITS } from "./keys.js"
import { Knobs } from "./knobs.js"
import { MAX_SEED, another, number, query, randomSeed, seed as readSeed, share, writer as readWriter, writersHelp } from "./values.js"
import { SIGNS, glyphs, isDigit, paintGlyph, rgb, rows } from "./writing.js"

const MAX_TEXT = 24
const LARGEST = 10 // times as large as its own pixels, a glyph is at most
const SMALLEST = { wide: 5, narrow: 3 } // longer texts go on in the next line
const NARROW = 480 // pixels
const NAMES = { ".": "point", ",": "comma", ":": "colon", "-": "hyphen", "/": "slash", "+": "plus" }

export default class Write extends DrawingPage {
  constructor(parent, base) {
    super(parent, base, "write")
    this.shown = null // { text, glyphs } on the paper
    this.draws = 0 // how often something was drawn
    this.listen()
    const text = () => query(this.pinned())
    this.actions = new Actions(this.find(".actions"), {
      base,
      page: () => "write?" + text(),
      query: () => "v=1&kind=write&" + text(),
      files: [
        { name: "PNG", path: "s/image.png" },
        { name: "SVG", path: "s/image.svg" },
        { name: "GIF", path: "s/animation.gif" },
      ],
    })
    this.observer = new ResizeObserver(() => this.fit())
    this.observer.observe(this.find(".paper"))
  }

  // --- The server's side

  start(data) {
    this.state = { ...data.view }
    this.build()
  }

  // Show the pictures that came with the page.
  async first(source) {
    if (!source) return this.draw()
    const { draws, state: { text } } = this
    const pictures = await this.drawer.unpacked(source, this.digits.length)
    if (draws === this.draws) this.put(text, pictures)
  }

  // All values of the view and its generator, as text.
  pinned() {
    const { text, style, seed, own, truncation, spacing, ink, paper } = this.state
    const texts = Object.entries(this.asked).map(([name, value]) => [name, number(value)])
    return {
      ...this.data.scope,
      ...Object.fromEntries(texts),
      text,
      style,
      seed,
      own: own.map(([k, each]) => `${k}.${each}`).join("_"),
      truncation: share(truncation),
      spacing,
      ink,
      paper,
    }
  }

  // The attributes or the writer that are asked for: numbers by name.
  get asked() {
    const names = this.data.writers.length ? ["writer"] : this.data.attributes.map(({ name }) => name)
    return Object.fromEntries(names.map((name) => [name, this.state[name]]).filter(([, value]) => value !== null))
  }

  // Tell the server after `delay` milliseconds without a change.
  commit(delay = 0) {
    super.commit(delay)
    this.find(".words").textContent = this.words()
  }

  close() {
    super.close()
    this.observer.disconnect()
  }

  // --- The visitor's side

  keyRows() {
    return [
      { keys: DIGITS, words: "Write a digit", act: () => this.enter() },
      { keys: [...SIGNS.keys()], words: "Write a sign", act: () => this.enter() },
      { keys: ["s"], words: "Share", act: () => { this.actions.share() } },
    ]
  }

  // Go to the end of the field. The browser then writes the character of the key there.
  enter() {
    const field = this.find(".text")
    field.focus({ preventScroll: true })
    field.setSelectionRange(field.value.length, field.value.length)
    return false
  }

  listen() {
    const { find } = this
    for (const name of ["pointerenter", "pointermove", "focusin"]) this.root.addEventListener(name, () => this.wake())
    find(".text").oninput = (event) => this.type(event.target.value)
    find(".today").onclick = () => {
      find(".text").value = today()
      this.type(today())
    }
    for (const button of this.root.querySelectorAll(".style button")) {
      button.onclick = () => this.change({ style: button.dataset.style })
    }
    find(".seed").oninput = (event) => this.typeSeed(event.target.value)
    find(".roll").onclick = () => {
      const seed = randomSeed()
      find(".seed").value = seed
      this.problem("", "seed")
      this.change({ seed, own: [] })
    }
    find(".undo").onclick = () => this.change({ own: [] })
    find(".truncation").oninput = (event) => this.change({ truncation: Number(event.target.value) }, NEVER)
    find(".truncation").onchange = () => this.commit()
    find(".spacing").oninput = (event) => this.change({ spacing: Number(event.target.value) }, NEVER)
    find(".spacing").onchange = () => this.commit()
    find(".writer").oninput = (event) => this.typeWriter(event.target.value)
    find(".roll-writer").onclick = () => this.chooseWriter(another(this.data.writers, this.state.writer))
    find(".anyone").onclick = () => this.chooseWriter(null)
    find(".text-lines").onkeydown = (event) => this.press(event)
  }

  change(values, delay = 0) {
    Object.assign(this.state, values)
    this.show()
    const isLook = Object.keys(values).every((name) => ["ink", "paper", "spacing"].includes(name))
    if (isLook) this.paint()
    else this.draw()
    this.commit(delay)
  }

  // Write what was typed. Digits that were there before keep their own seeds.
  type(typed) {
    const text = typed.replace(/[\u2010-\u2015\u2212]/g, "-") // dashes, as some keyboards make them
    const problem = problemOf(text)
    this.problem(problem && `${problem} Still shown: ${this.state.text}`, "text")
    if (problem || text === this.state.text) return
    const own = moved(this.state.own, digitsOf(this.state.text), digitsOf(text))
    this.change({ text, own }, REPORT_AFTER)
  }

  typeSeed(text) {
    const seed = readSeed(text)
    const max = MAX_SEED.toLocaleString("en-US")
    const shown = `Still shown: seed ${this.state.seed}.`
    this.problem(seed === null ? `A seed is a whole number from 0 to ${max}. ${shown}` : "", "seed")
    if (seed !== null && seed !== this.state.seed) this.change({ seed }, REPORT_AFTER)
  }

  chooseWriter(writer) {
    this.find(".writer").value = writer ?? ""
    this.problem("", "writer")
    this.change({ writer })
  }

  typeWriter(text) {
    const writer = readWriter(text, this.data.writers)
    const shown = this.state.writer === null ? "anyone" : `writer ${this.state.writer}`
    this.problem(writer === undefined ? `No writer has this number. Still shown: ${shown}.` : "", "writer")
    if (writer !== undefined && writer !== this.state.writer) this.change({ writer }, REPORT_AFTER)
  }

  // Give digit `k` of the text a seed of its own; null takes it away again.
  rewrite(k, seed) {
    if (k >= this.digits.length) return // of a text that is about to be replaced
    const others = this.state.own.filter(([each]) => each !== k)
    const own = seed === null ? others : [...others, [k, seed]].sort(([a], [b]) => a - b)
    this.change({ own })
    this.find(".words").textContent = `Digit ${k + 1}, a ${this.digits[k]}, from seed ${this.seeds[k]}.`
  }

  // Arrow keys move among the digits; Delete takes the digit's own seed away.
  press(event) {
    const buttons = [...this.root.querySelectorAll("button.glyph")]
    const at = buttons.findIndex((button) => button.matches(":focus"))
    if (at < 0) return
    if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault()
      return this.rewrite(at, null)
    }
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: buttons.length - 1 }[event.key]
    if (!buttons[to]) return
    event.preventDefault()
    buttons[at].tabIndex = -1
    buttons[to].tabIndex = 0
    buttons[to].focus()
  }

  // Show what is wrong with the value of a field; an empty text: nothing.
  problem(text, name) {
    this.find(`#${name}-problem`).textContent = text
    this.find(`#${name}-problem`).hidden = !text
    this.find(`#${name}`).setAttribute("aria-invalid", String(Boolean(text)))
  }

  // --- Drawing

  get digits() { return digitsOf(this.state.text) }

  get seeds() {
    const { style, seed, own } = this.state
    const known = new Map(own)
    return this.digits.map((_, k) => known.get(k) ?? (style === "free" ? (seed + k) % (MAX_SEED + 1) : seed))
  }

  async draw() {
    this.draws++
    const { drawer, digits, seeds } = this
    const { text, truncation } = this.state
    const job = { pictures: digits.map((digit, k) => ({ digit, seed: seeds[k] })), truncation, asked: this.asked }
    try {
      const pictures = await drawer.draw(job, "v=1&kind=write&" + query(this.pinned()), "large", digits.length)
      if (pictures && drawer === this.drawer) this.put(text, pictures)
    } catch (error) {
      this.find(".state").textContent = `This text could not be drawn: ${error.message}.`
    }
  }

  put(text, pictures) {
    this.shown = { text, glyphs: glyphs(text, pictures) }
    this.paint()
  }

  // Paint the glyphs that are drawn, in the colours and with the spacing of now.
  paint() {
    if (!this.shown) return
    const { text, glyphs: drawn } = this.shown
    this.lay(text)
    this.fit()
    const [ink, paper] = ["ink", "paper"].map((name) => rgb(this.hex(name)))
    this.elements.forEach((element, k) => paintGlyph(element.firstChild, drawn[k], ink, paper))
    const { seeds } = this
    this.elements.filter((element) => element.matches("button")).forEach((button, k) => {
      button.title = `Write this ${button.dataset.digit} anew`
      button.setAttribute("aria-label", `${button.dataset.digit}, seed ${seeds[k]}: write it anew`)
    })
  }

  // Make the elements of a text, if it is another one: a button for each digit. One of them is in the order of the Tab
  // key.
  lay(text) {
    const whole = this.find(".text-lines")
    if (whole.dataset.text === text) return
    whole.dataset.text = text
    whole.setAttribute("aria-label", `${text} in handwriting`)
    let digits = 0
    this.elements = Array.from(text, (character) => {
      const k = digits
      if (isDigit(character)) digits++
      return glyph(character, isDigit(character) ? () => this.rewrite(k, randomSeed()) : null)
    })
    this.elements.find((element) => element.matches("button")).tabIndex = 0
  }

  // Make the text as large as fits into one line, in whole pixels; a long text goes on in the next line. The elements move
  // only if the lines change, so that the focus stays.
  fit() {
    if (!this.shown) return
    const paper = this.find(".paper")
    const style = getComputedStyle(paper)
    const room = paper.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight)
    const { spacing } = this.state
    const { text, glyphs: drawn } = this.shown
    const columns = drawn.reduce((sum, { width }) => sum + width + spacing, -spacing)
    const least = SMALLEST[room < NARROW ? "narrow" : "wide"]
    const scale = Math.max(Math.min(Math.floor(room / columns), LARGEST), least)
    const whole = this.find(".text-lines")
    whole.style.setProperty("--scale", scale)
    whole.style.setProperty("--spacing", spacing)
    this.elements.forEach((element, k) => {
      element.style.setProperty("--columns", drawn[k].width)
      element.style.setProperty("--rows", drawn[k].height)
    })
    const lines = rows(text, drawn, spacing, Math.floor(room / scale))
    const layout = JSON.stringify([text, lines])
    if (whole.dataset.layout === layout) return
    whole.dataset.layout = layout
    const focused = this.elements.find((element) => element.matches(":focus"))
    whole.replaceChildren(...lines.map((line) => {
      const element = Object.assign(document.createElement("div"), { className: "line" })
      element.append(...line.map((k) => this.elements[k]))
      return element
    }))
    focused?.focus()
  }

  // --- Words

  words() {
    const { text, style, seed, own } = this.state
    const from = style === "same" ? `in one style, seed ${seed}` : `each digit in its own style, from seed ${seed} on`
    const anew = own.length ? `, ${own.length === 1 ? "one digit" : `${own.length} digits`} written anew` : ""
    return `${text.trim()}, ${from}${anew}.`
  }

  // --- Widgets

  build() {
    const { attributes, writers } = this.data
    const change = (values, isDragged) => this.change(values, isDragged ? NEVER : 0)
    this.knobs = new Knobs(this.find(".attributes"), attributes, change, () => this.commit())
    this.find(".no-attributes").hidden = attributes.length > 0
    this.find(".writers").hidden = !writers.length
    this.find("#writer-help").textContent = writers.length ? writersHelp(writers) : ""
    this.makeSwatches(".swatches.ink", "ink", this.data.inks)
    this.makeSwatches(".swatches.paper-colours", "paper", this.data.papers)
    this.find(".text").value = this.state.text
    for (const name of ["text", "seed", "writer"]) this.problem("", name)
  }

  makeSwatches(place, name, choices) {
    const buttons = choices.map((colour) => {
      const button = Object.assign(document.createElement("button"), { type: "button", title: colour })
      button.dataset.colour = colour
      button.setAttribute("aria-label", colour)
      button.style.setProperty("--colour", this.data.colours[colour])
      button.onclick = () => this.change({ [name]: colour })
      return button
    })
    const own = Object.assign(document.createElement("label"), { title: "Another colour" })
    const input = Object.assign(document.createElement("input"), { type: "color" })
    input.setAttribute("aria-label", `Another colour for the ${name}`)
    input.oninput = () => this.change({ [name]: input.value }, NEVER)
    input.onchange = () => this.commit()
    own.append(input)
    this.find(place).replaceChildren(...buttons, own)
  }

  // Return the colour of the ink or the paper, such as #1f3fa0.
  hex(name) { return this.data.colours[this.state[name]] ?? this.state[name] }

  show() {
    const { style, seed, own, truncation, spacing, text } = this.state
    const { find } = this
    for (const button of this.root.querySelectorAll(".style button")) {
      button.setAttribute("aria-pressed", String(button.dataset.style === style))
    }
    if (readSeed(find(".seed").value) !== seed) find(".seed").value = seed
    find(".undo").disabled = !own.length
    find(".truncation").value = truncation
    find(".truncation-value").textContent = truncation.toFixed(2)
    find(".spacing").value = spacing
    find(".spacing-value").textContent = `${spacing} px`
    this.knobs.show(this.state)
    this.showWriter()
    for (const [place, name] of [[".swatches.ink", "ink"], [".swatches.paper-colours", "paper"]]) {
      const buttons = [...this.root.querySelectorAll(`${place} button`)]
      for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.colour === this.state[name]))
      find(`${place} label`).classList.toggle("is-chosen", this.state[name].startsWith("#"))
      find(`${place} input`).value = this.hex(name)
      this.root.style.setProperty(`--${name}`, this.hex(name))
    }
    find(".words").textContent = this.words()
    const signs = [...new Set(text)].filter((character) => SIGNS.has(character))
    const hint = "Choose a digit to write it anew."
    const named = `the sign${signs.length === 1 ? "" : "s"} ${signs.join(" ")}`
    find(".hint").textContent = signs.length ? `${hint} This page draws ${named} because the network knows only digits.` : hint
  }

  showWriter() {
    const { writer } = this.state
    const input = this.find(".writer")
    if (readWriter(input.value, this.data.writers) !== writer) input.value = writer ?? ""
    this.find(".anyone").disabled = writer === null
  }
}

// Say what is wrong with a text; an empty text: nothing.
function problemOf(text) {
  const wrong = Array.from(text).find((character) => !isDigit(character) && character !== " " && !SIGNS.has(character))
  if (wrong !== undefined) return `\u201c${wrong}\u201d cannot be written, only digits, spaces and ${[...SIGNS.keys()].join(" ")}`
  if (text.length > MAX_TEXT) return `A text has at most ${MAX_TEXT} characters.`
  return Array.from(text).some(isDigit) ? "" : "Type at least one digit."
}

function digitsOf(text) {
  return Array.from(text).filter(isDigit).map(Number)
}

// Return the seeds that digits have of their own after a change of the text: those before and behind it keep theirs.
function moved(own, before, after) {
  const shorter = Math.min(before.length, after.length)
  let start = 0
  while (start < shorter && before[start] === after[start]) start++
  let end = 0
  while (end < shorter - start && before.at(-1 - end) === after.at(-1 - end)) end++
  const by = after.length - before.length
  return own.flatMap(([k, seed]) => (k < start ? [[k, seed]] : k >= before.length - end ? [[k + by, seed]] : []))
}

// Return the element of a character: a button for a digit, which `choose` writes anew.
function glyph(character, choose) {
  const element = Object.assign(document.createElement(choose ? "button" : "span"), { className: "glyph" })
  const canvas = document.createElement("canvas")
  element.append(canvas)
  if (choose) {
    Object.assign(element, { type: "button", onclick: choose, tabIndex: -1 })
    element.dataset.digit = character
  } else if (character !== " ") {
    canvas.setAttribute("role", "img")
    canvas.setAttribute("aria-label", NAMES[character])
  }
  return element
}

// Return the date of today where the visitor is, as 2026-11-24.
function today() {
  const now = new Date()
  const two = (value) => String(value).padStart(2, "0")
  return `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`
}
