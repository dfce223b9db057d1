// The Explore page: one large picture to drag through the plane between four seeds, styles to choose from, and a grid.
// The browser holds the state and draws it at once; the server hears of it when the visitor lets go.

import { Actions } from "./actions.js"
import { paint } from "./drawer.js"
import { DrawingPage, NEVER, REPORT_AFTER } from "./drawing_page.js"
import { DIGITS } from "./keys.js"
import { Knobs } from "./knobs.js"
import { Look } from "./look.js"
import { recall, remember } from "./memory.js"
import { MAX_SEED, another, digits as digitsText, following, number, query, randomSeed, seed as readSeed, share, writer as readWriter, writersHelp } from "./values.js"

const STRIP = 10 // styles in the strip
const KEY_STEP = 0.05 // of the pad, that an arrow key moves the hero
const WELCOME = "explore.welcome"

export default class Explore extends DrawingPage {
  constructor(parent, base) {
    super(parent, base, "explore")
    this.buttons = { digit: [], rows: [] }
    this.frame = null
    this.listen()
    this.actions = new Actions(this.find(".actions"), {
      base,
      page: () => "?" + query(this.pinned()),
      query: () => "v=1&kind=explore&" + query(this.pinned()),
      files: [{ name: "PNG", path: "s/image.png" }],
    })
    this.look = new Look(this.find(".look"), this)
    this.find(".welcome").hidden = recall(WELCOME) === "closed"
  }

  // --- The server's side

  start(data) {
    this.state = { ...data.view }
    this.build()
  }

  // Show the pictures that came with the page. The strip is a row of the grid when the grid has it.
  async first(source) {
    if (!source) return this.draw()
    const { digits, digit, count, seed } = this.state
    const rows = digits ?? [null]
    const pictures = await this.drawer.unpacked(source, 1 + rows.length * count)
    this.paintHero(pictures)
    const shape = pictures.height * pictures.width * pictures.channels
    const part = (start, number) => ({ ...pictures, count: number, pixels: pictures.pixels.subarray(start * shape, (start + number) * shape) })
    this.paintGrid(part(1, rows.length * count))
    const row = digits ? digits.indexOf(digit) : 0
    const columns = Math.min(count, STRIP)
    const own = this.state.corners.every((corner, k) => corner === seed + k)
    if (row >= 0 && count >= STRIP && own) {
      const strip = part(1 + row * count, columns)
      this.paintStrip(strip)
      this.paintCorners(strip)
    } else {
      this.drawStrip()
      this.drawCorners()
    }
  }

  // All values of the view and its generator, as text.
  pinned() {
    const { digits, count, seed, truncation, digit, corners, x, y } = this.state
    return {
      ...this.scope,
      digits: digits ? digitsText(digits) : null,
      count,
      seed,
      truncation: share(truncation),
      digit,
      corners: corners.join("."),
      x: share(x),
      y: share(y),
    }
  }

  // The generator, and the attributes or the writer that are asked for, as text.
  get scope() {
    const texts = Object.entries(this.asked).map(([name, value]) => [name, number(value)])
    return { ...this.data.scope, ...Object.fromEntries(texts) }
  }

  // What can be asked for beside the digit: the names of the attributes, or of the writer.
  get asks() { return this.data.writers.length ? ["writer"] : this.data.attributes.map(({ name }) => name) }

  // The attributes or the writer that are asked for: numbers by name.
  get asked() {
    const values = this.asks.map((name) => [name, this.state[name]])
    return Object.fromEntries(values.filter(([, value]) => value !== null))
  }

  // Tell the server after `delay` milliseconds without a change.
  commit(delay = 0) {
    super.commit(delay)
    this.find(".words").textContent = this.words()
  }

  // --- The visitor's side

  keyRows() {
    const { classes, noun } = this.data
    const digits = DIGITS.slice(0, classes.length)
    return [
      ...(digits.length ? [{ keys: digits, words: `Choose the ${noun}`, act: (key) => this.change({ digit: Number(key) }) }] : []),
      { keys: ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], words: "Move the large picture", act: (key) => this.nudge(key) },
      { keys: ["s"], words: "Share", act: () => { this.actions.share() } },
    ]
  }

  // Move the hero by a step of an arrow key; return false at the edge, or if the pad is out of sight.
  nudge(key) {
    const { top, bottom } = this.find(".pad").getBoundingClientRect()
    if (bottom < 0 || top > innerHeight) return false
    const { x, y } = this.state
    const [across, down] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key]
    const moved = [x + across * KEY_STEP, y + down * KEY_STEP].map((value) => Math.round(Math.min(Math.max(value, 0), 1) * 1000) / 1000)
    if (moved[0] === x && moved[1] === y) return false
    this.root.classList.add("dragged")
    this.move(...moved)
    this.commit(REPORT_AFTER)
  }

  listen() {
    for (const name of ["pointerenter", "pointermove", "focusin"]) this.root.addEventListener(name, () => this.wake())
    this.listenToPad()
    this.find(".prompt").onsubmit = (event) => { event.preventDefault(); this.write(this.find("#prompt").value) }
    this.find(".seed").oninput = (event) => this.typeSeed(event.target.value)
    this.find(".roll").onclick = () => this.chooseSeed(randomSeed())
    this.find(".welcome button").onclick = () => {
      remember(WELCOME, "closed")
      this.find(".welcome").classList.add("is-closed") // it keeps its place, so that nothing moves
    }
    this.find(".truncation").oninput = (event) => this.change({ truncation: Number(event.target.value) }, NEVER)
    this.find(".truncation").onchange = () => this.commit()
    this.find(".count").oninput = (event) => {
      const count = Number(event.target.value)
      this.change({ count, seed: Math.min(this.state.seed, MAX_SEED + 1 - count) }, NEVER)
    }
    this.find(".count").onchange = () => this.commit()
    this.find(".writer").oninput = (event) => this.typeWriter(event.target.value)
    this.find(".roll-writer").onclick = () => this.chooseWriter(another(this.data.writers, this.state.writer))
    this.find(".anyone").onclick = () => this.chooseWriter(null)
    this.find(".roll-corners").onclick = () => {
      this.change({ corners: [0, 1, 2, 3].map(randomSeed), x: 0.5, y: 0.5 })
    }
    for (const input of this.root.querySelectorAll(".corner-seeds input")) {
      input.oninput = () => this.typeCorner(Number(input.dataset.corner), input)
    }
    for (const button of this.root.querySelectorAll(".corner")) {
      const k = Number(button.dataset.corner)
      button.onclick = () => this.change({ x: k % 2, y: k >> 1 })
    }
  }

  listenToPad() {
    const pad = this.find(".pad")
    const move = (event) => {
      const box = pad.getBoundingClientRect()
      const part = (value) => Math.round(Math.min(Math.max(value, 0), 1) * 1000) / 1000
      this.move(part((event.clientX - box.left) / box.width), part((event.clientY - box.top) / box.height))
    }
    pad.onpointerdown = (event) => {
      if (event.button) return
      pad.setPointerCapture(event.pointerId)
      this.root.classList.add("dragging")
      move(event)
    }
    pad.onpointermove = (event) => { if (pad.hasPointerCapture(event.pointerId)) move(event) }
    pad.onpointerup = pad.onpointercancel = () => {
      this.root.classList.remove("dragging")
      this.root.classList.add("dragged")
      this.commit()
    }
    for (const axis of ["x", "y"]) {
      const input = this.find(`.axes .${axis}`)
      input.oninput = () => this.move(...["x", "y"].map((name) => Number(this.find(`.axes .${name}`).value)))
      input.onchange = () => this.commit()
    }
  }

  // Move the hero. The picture is drawn before the next frame of the screen, however often the pointer reports.
  move(x, y) {
    Object.assign(this.state, { x, y })
    this.showPosition()
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.drawHero() })
  }

  change(values, delay = 0) {
    Object.assign(this.state, values)
    this.find(".moves").replaceChildren() // they may no longer hold
    this.show()
    this.draw(Object.keys(values))
    this.commit(delay)
  }

  chooseSeed(seed) {
    this.find(".seed").value = seed
    this.problem("")
    this.change({ seed, corners: following(seed), x: 0, y: 0 })
  }

  typeSeed(text) {
    const seed = readSeed(text, this.maxSeed)
    if (seed === null) {
      const max = this.maxSeed.toLocaleString("en-US")
      return this.problem(`A seed is a whole number from 0 to ${max}. Still shown: seed ${this.state.seed}.`)
    }
    this.problem("")
    if (seed !== this.state.seed) this.change({ seed, corners: following(seed), x: 0, y: 0 }, REPORT_AFTER)
  }

  chooseWriter(writer) {
    this.find(".writer").value = writer ?? ""
    this.problem("", "writer")
    this.change({ writer })
  }

  typeWriter(text) {
    const writer = readWriter(text, this.data.writers)
    if (writer === undefined) {
      const shown = this.state.writer === null ? "anyone" : `writer ${this.state.writer}`
      return this.problem(`No writer has this number. Still shown: ${shown}.`, "writer")
    }
    this.problem("", "writer")
    if (writer !== this.state.writer) this.change({ writer }, REPORT_AFTER)
  }

  typeCorner(k, input) {
    const seed = readSeed(input.value)
    input.setAttribute("aria-invalid", String(seed === null))
    if (seed === null) return
    this.change({ corners: this.state.corners.map((old, index) => (index === k ? seed : old)) }, REPORT_AFTER)
  }

  problem(text, name = "seed") {
    this.find(`#${name}-problem`).textContent = text
    this.find(`#${name}-problem`).hidden = !text
    this.find(`#${name}`).setAttribute("aria-invalid", String(Boolean(text)))
  }

  // Set what a prompt asks for (docs/words.md has the grammar, the server reads it), and show what each part moves.
  async write(words) {
    const reading = this.reading = {} // a later prompt counts, whichever answer comes first
    const text = query({ v: 1, kind: "explore", ...this.pinned(), words })
    try {
      const response = await fetch(new URL("api/v1/prompt?" + text, this.base))
      const answer = await response.json().catch(() => ({ error: `The server answers ${response.status}.` }))
      if (reading !== this.reading) return
      if (!response.ok) return this.problem(`${capital(answer.error)}${answer.error.endsWith(".") ? "" : "."}`, "prompt")
      this.problem("", "prompt")
      const { seed } = answer.values
      const style = seed === undefined ? {} : { corners: following(seed), x: 0, y: 0 }
      if (seed !== undefined) this.problem("")
      if (answer.values.writer !== undefined) this.problem("", "writer")
      this.change({ ...answer.values, ...style })
      this.find(".moves").replaceChildren(...answer.moves.map((move) => this.effect(move)))
    } catch (error) {
      if (reading === this.reading) this.problem(`These words could not be read: ${error.message}.`, "prompt")
    }
  }

  // Return a line for a part of a prompt, such as "thick" -> thickness +1.5. Its words may be anything.
  effect({ words, control, setting }) {
    const line = document.createElement("li")
    const quote = Object.assign(document.createElement("q"), { textContent: words })
    line.append(quote, ` \u2192 ${control === "digit" ? this.data.noun : control} ${setting}`)
    return line
  }

  get maxSeed() { return MAX_SEED + 1 - this.state.count }

  // --- Words

  // Describe the hero.
  words() {
    const { digit, corners, x, y } = this.state
    const name = this.name(digit)
    const corner = [0, 1, 2, 3].find((k) => x === k % 2 && y === k >> 1)
    if (corner !== undefined) return `${name}, seed ${corners[corner]}`
    return `${name} between seeds ${corners.slice(0, 3).join(", ")} and ${corners[3]}`
  }

  name(digit) { return digit === null ? this.data.picture : this.data.classes[digit].picture }

  // --- Drawing

  // Draw what depends on the values that changed; all of it without names.
  draw(changed = ["digit", "corners", "truncation", "seed", "digits", "count"]) {
    const manner = ["truncation", ...this.asks]
    const has = (...names) => [...manner, ...names].some((name) => changed.includes(name))
    if (has("digit", "corners", "x", "y")) this.drawHero()
    if (has("digit", "corners")) this.drawCorners()
    if (has("digit", "seed")) this.drawStrip()
    if (has("digits", "count", "seed")) this.drawGrid()
  }

  async drawHero() {
    const { digit, corners, x, y, truncation } = this.state
    const server = { ...this.pinned(), digits: digit, count: 1 }
    const job = { plane: { digit, corners, x, y }, truncation, asked: this.asked }
    await this.painted(job, "kind=explore&" + query(server), "hero", 1, (pictures) => this.paintHero(pictures))
  }

  drawCorners() {
    const { digit, corners } = this.state
    const buttons = [...this.root.querySelectorAll(".corner canvas")]
    corners.forEach((seed, k) => {
      this.drawPictures([digit], seed, 1, `corner ${k}`, (pictures) => paint(buttons[k], pictures))
    })
  }

  drawStrip() {
    this.drawPictures([this.state.digit], this.stripSeed, STRIP, "strip", (pictures) => this.paintStrip(pictures))
  }

  drawGrid() {
    const { digits, seed, count } = this.state
    this.drawPictures(digits ?? [null], seed, count, "grid", (pictures) => this.paintGrid(pictures))
  }

  // Draw `count` pictures of each digit, picture k from seed + k.
  drawPictures(digits, seed, count, lane, show) {
    const { truncation } = this.state
    const seeds = Array.from({ length: count }, (_, k) => seed + k)
    const job = { pictures: digits.flatMap((digit) => seeds.map((each) => ({ digit, seed: each }))), truncation, asked: this.asked }
    const labels = digits[0] === null ? null : digitsText(digits)
    const server = { ...this.scope, digits: labels, count, seed, truncation: share(truncation) }
    return this.painted(job, "kind=generate&" + query(server), lane, digits.length * count, show)
  }

  async painted(job, text, lane, count, show) {
    const drawer = this.drawer
    try {
      const pictures = await drawer.draw(job, "v=1&" + text, lane, count)
      if (pictures && drawer === this.drawer) show(pictures)
    } catch (error) {
      this.find(".state").textContent = `This picture could not be drawn: ${error.message}.`
    }
  }

  get stripSeed() { return Math.min(this.state.seed, MAX_SEED + 1 - STRIP) }

  paintHero(pictures) {
    paint(this.find(".hero"), pictures)
    this.find(".hero").setAttribute("aria-label", this.words())
  }

  paintCorners(strip) {
    const canvases = [...this.root.querySelectorAll(".corner canvas")]
    canvases.forEach((canvas, k) => paint(canvas, strip, k))
  }

  paintStrip(pictures) {
    const canvases = [...this.root.querySelectorAll(".strip canvas")]
    canvases.forEach((canvas, k) => paint(canvas, pictures, k))
  }

  paintGrid(pictures) {
    const canvases = [...this.root.querySelectorAll(".grid canvas")]
    if (canvases.length === pictures.count) canvases.forEach((canvas, k) => paint(canvas, pictures, k))
  }

  // --- Widgets

  // Make the buttons of this generator's classes.
  build() {
    const { classes } = this.data
    this.find(".welcome a").href = new URL("how?" + query(this.data.scope), this.base).href
    this.root.classList.toggle("without-classes", !classes.length)
    this.buttons.digit = pills(this.find(".pills.digit"), classes, (digit) => this.change({ digit }))
    this.buttons.rows = pills(this.find(".pills.rows"), classes, (digit) => this.toggleRow(digit))
    for (const name of ["#digit-title"]) this.find(name).textContent = capital(this.data.noun)
    this.find(".count-title").textContent = classes.length ? `Pictures of each ${this.data.noun}` : "Pictures"
    this.find("#truncation-help").textContent =
      `1 gives as much variety as in training, 0 the average picture${classes.length ? ` of the ${this.data.noun}` : ""}.`
    this.find("#seed-help").textContent = this.data.seed_help
    if (this.data.noun === "digit" && classes.length) {
      const adjectives = this.data.attributes.length ? "a thick, strongly slanted" : "a typical"
      const [writer] = this.data.writers
      this.find("#prompt").placeholder = writer === undefined ? `${adjectives} seven, seed 7` : `a seven by writer ${writer}, seed 7`
    }
    const change = (values, isDragged) => this.change(values, isDragged ? NEVER : 0)
    this.knobs = new Knobs(this.find(".attributes"), this.data.attributes, change, () => this.commit())
    this.find(".hand").hidden = !this.data.writers.length
    this.find("#writer-help").textContent = writersHelp(this.data.writers)
    const strip = Array.from({ length: STRIP }, (_, k) => cell(() => this.chooseStyle(this.stripSeed + k)))
    this.find(".strip").replaceChildren(...strip)
  }

  showWriter() {
    const { writer } = this.state
    const input = this.find(".writer")
    if (readWriter(input.value, this.data.writers) !== writer) input.value = writer ?? ""
    this.find(".anyone").disabled = writer === null
  }

  // Choose a style for the hero: the others of the strip's seeds are the other corners.
  chooseStyle(seed) {
    this.change({ corners: following(seed), x: 0, y: 0 })
  }

  toggleRow(digit) {
    const all = this.data.classes.map((_, label) => label)
    const { digits } = this.state
    const isAll = digits.length === all.length
    const next = isAll ? [digit] : all.filter((label) => digits.includes(label) !== (label === digit))
    this.change({ digits: next.length ? next : all })
  }

  show() {
    const { digit, digits, seed, count, truncation, corners } = this.state
    const isAll = digits && digits.length === this.data.classes.length
    this.buttons.digit.forEach((button, label) => button.setAttribute("aria-pressed", String(label === digit)))
    this.buttons.rows.forEach((button, label) => {
      button.setAttribute("aria-pressed", String(!isAll && digits.includes(label)))
    })
    keep(this.find(".seed"), seed, readSeed)
    this.find(".truncation").value = truncation
    this.find(".truncation-value").textContent = truncation.toFixed(2)
    this.find(".count").value = count
    this.find(".count-value").textContent = count
    this.knobs.show(this.state)
    this.showWriter()
    this.root.querySelectorAll(".corner-seeds input").forEach((input, k) => keep(input, corners[k], readSeed))
    this.root.querySelectorAll(".corner").forEach((button, k) => {
      button.setAttribute("aria-label", `Corner: ${this.name(digit)}, seed ${corners[k]}`)
      button.title = `Seed ${corners[k]}`
    })
    this.find(".strip").childNodes.forEach((button, k) => {
      const words = `${this.name(digit)}, seed ${this.stripSeed + k}`
      button.setAttribute("aria-label", words)
      button.title = `Seed ${this.stripSeed + k}`
    })
    this.showPosition()
    this.showGrid()
    this.find(".words").textContent = this.words()
  }

  showPosition() {
    const { x, y } = this.state
    const dot = this.find(".dot")
    dot.style.left = `${100 * x}%`
    dot.style.top = `${100 * y}%`
    this.find(".axes .x").value = x
    this.find(".axes .y").value = y
    this.find(".strip").childNodes.forEach((button, k) => {
      const isShown = !x && !y && this.state.corners[0] === this.stripSeed + k
      button.setAttribute("aria-pressed", String(isShown))
    })
  }

  // Make the cells of the grid. One of them is in the order of the Tab key; arrow keys move among them.
  showGrid() {
    const { digits, count, seed } = this.state
    const rows = digits ?? [null]
    const grid = this.find(".grid")
    const columns = rows.length > 1 ? count : Math.min(count, 10)
    const signature = JSON.stringify([rows, count, seed])
    if (grid.dataset.signature === signature) return
    const focused = [...grid.querySelectorAll("button")].findIndex((button) => button.matches(":focus"))
    grid.dataset.signature = signature
    grid.style.setProperty("--columns", columns)
    grid.classList.toggle("labelled", rows.length > 1)
    const old = [...grid.querySelectorAll("canvas")]
    const parts = []
    rows.forEach((digit, row) => {
      if (rows.length > 1) {
        parts.push(Object.assign(document.createElement("span"), { className: "label", textContent: this.data.classes[digit].name }))
      }
      for (let k = 0; k < count; k++) {
        const index = row * count + k
        const button = cell(() => this.look.open({ digit, seed: seed + k }), old.length === rows.length * count ? old[index] : null)
        button.setAttribute("aria-label", `${this.name(digit)}, seed ${seed + k}`)
        button.title = `Seed ${seed + k}`
        button.tabIndex = index ? -1 : 0
        parts.push(button)
      }
    })
    grid.replaceChildren(...parts)
    grid.onkeydown = (event) => moveFocus(event, [...grid.querySelectorAll("button")], columns)
    if (focused >= 0) grid.querySelectorAll("button")[focused]?.focus()
    const number = rows.length * count
    const listed = digits ? this.listed(digits) : this.data.nouns
    this.find(".caption").textContent = `${number} picture${number === 1 ? "" : "s"} of ${listed}, ${this.data.drawn_by}`
  }

  listed(digits) {
    const { classes, noun, nouns, has_names: hasNames } = this.data
    if (digits.length === classes.length && digits.length > 1) return `all ${digits.length} ${nouns}`
    const names = digits.map((digit) => classes[digit].name)
    const joined = names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names[0]
    return hasNames ? joined : `${digits.length === 1 ? noun : nouns} ${joined}`
  }
}

// Write a seed into a field, unless the visitor has typed the same seed in another way.
function keep(input, seed, read) {
  if (read(input.value) !== seed) input.value = seed
}

function capital(word) {
  return word[0].toUpperCase() + word.slice(1)
}

function pills(parent, classes, choose) {
  const buttons = classes.map(({ name }, label) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: name })
    button.onclick = () => choose(label)
    return button
  })
  parent.replaceChildren(...buttons)
  return buttons
}

function cell(choose, canvas = null) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "cell" })
  button.append(canvas ?? Object.assign(document.createElement("canvas"), { width: 28, height: 28 }))
  button.onclick = choose
  return button
}

function moveFocus(event, buttons, columns) {
  const at = buttons.findIndex((button) => button.matches(":focus"))
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -at, End: buttons.length - 1 - at }
  if (at < 0 || !(event.key in moves)) return
  event.preventDefault()
  const next = buttons[at + moves[event.key]]
  if (!next) return
  buttons[at].tabIndex = -1
  next.tabIndex = 0
  next.focus()
}
