// The Interpolate page: stops that can be added, moved and removed, and a player of the frames between them. The browser
// holds the state and draws it at once; the server hears of it when the visitor lets go.

import { Actions } from "./actions.js"
import { paint } from "./drawer.js"
import { DrawingPage, NEVER, REPORT_AFTER } from "./drawing_page.js"
import { DIGITS } from "./keys.js"
import { standalone } from "./standalone.js"
import { another, number, query, randomSeed, seed as readSeed, writer as readWriter, writersHelp } from "./values.js"

const MAX_STOPS = 8
const MAX_ALL_FRAMES = 192
const FPS = 12
const HOLD = 4 // times as long as the others, the ends stay
const ICONS = {
  dice: '<path d="M5 5h14v14H5zM9 9h.01M15 9h.01M12 12h.01M9 15h.01M15 15h.01"/>',
  left: '<path d="M15 5 8 12l7 7"/>',
  right: '<path d="m9 5 7 7-7 7"/>',
  remove: '<path d="M6 6l12 12M18 6 6 18"/>',
  add: '<path d="M12 5v14M5 12h14"/>',
}

export default class Interpolate extends DrawingPage {
  constructor(parent, base) {
    super(parent, base, "interpolate")
    this.pictures = null
    this.index = 0
    this.direction = 1
    this.selected = null // index of the stop whose digit the digit keys choose
    this.listen()
  }

  // --- The server's side

  start(data) {
    const { path, frames, frame, play, fps, writer } = data.view
    this.state = { stops: data.stops.map((stop) => ({ ...stop })), path, frames, frame, play, fps, writer }
    this.find(".hand").hidden = !data.writers.length
    this.find(".hand").title = data.writers.length ? writersHelp(data.writers) : ""
    this.root.classList.toggle("without-classes", !data.classes.length)
    this.makeActions()
  }

  // Show the frames that came with the page, and play them unless the link names one.
  async first(source) {
    this.pause()
    this.index = this.state.frame ?? 0
    if (source) {
      this.paintFrames(await this.drawer.unpacked(source, this.number))
      this.drawStops()
    } else this.draw()
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches
    if (this.state.frame === null && !still) this.play()
  }

  // All values of the view and its generator, as text.
  pinned() {
    const { stops, path, frames, frame, play, fps } = this.state
    const [from, to] = [stops[0], stops.at(-1)]
    const via = stops.slice(1, -1).map(({ digit, seed }) => (digit === null ? `${seed}` : `${digit}.${seed}`)).join("_")
    return {
      ...this.scope,
      from_digit: from.digit,
      from_seed: from.seed,
      to_digit: to.digit,
      to_seed: to.seed,
      path,
      frames,
      via,
      frame,
      play,
      fps,
    }
  }

  // The generator, and the attributes or the writer that are asked for, as text.
  get scope() {
    const texts = Object.entries(this.asked).map(([name, value]) => [name, number(value)])
    return { ...this.data.scope, ...Object.fromEntries(texts) }
  }

  // The attributes that the link asks for, or the writer: numbers by name.
  get asked() {
    const values = this.data.attributes.map(({ name }) => [name, this.data.view[name]])
    if (this.data.writers.length) values.push(["writer", this.state.writer])
    return Object.fromEntries(values.filter(([, value]) => value !== null))
  }

  close() {
    super.close()
    this.pause()
  }

  // --- The visitor's side

  keyRows() {
    const { classes, noun } = this.data
    const digits = DIGITS.slice(0, classes.length)
    const choose = (key) => (this.selected === null ? false : this.changeStop(this.selected, { digit: Number(key) }))
    return [
      ...(digits.length ? [{ keys: digits, words: `Choose the ${noun} of the outlined stop (click a stop first)`, act: choose }] : []),
      { keys: ["ArrowLeft", "ArrowRight"], words: "Previous or next frame", act: (key) => this.step(key === "ArrowLeft" ? -1 : 1) },
      { keys: ["p"], words: "Play or pause", act: () => this.toggle() },
      { keys: ["s"], words: "Share", act: () => { this.actions.share() } },
    ]
  }

  listen() {
    for (const name of ["pointerenter", "pointermove", "focusin"]) this.root.addEventListener(name, () => this.wake())
    const { find } = this
    find(".frames").oninput = (event) => this.change({ frames: Number(event.target.value) }, NEVER)
    find(".frames").onchange = () => this.commit()
    for (const button of this.root.querySelectorAll(".path button")) {
      button.onclick = () => this.change({ path: button.dataset.path })
    }
    find(".mode").onchange = (event) => { this.state.play = event.target.value; this.direction = 1; this.commit() }
    find(".fps").oninput = (event) => {
      this.state.fps = Number(event.target.value)
      this.showOptions()
      if (this.isPlaying) this.schedule()
    }
    find(".fps").onchange = () => this.commit()
    find(".writer").oninput = (event) => this.typeWriter(event.target)
    find(".roll-writer").onclick = () => this.chooseWriter(another(this.data.writers, this.state.writer))
    find(".anyone").onclick = () => this.chooseWriter(null)
    find(".hold").onchange = (event) => this.hold(event.target.checked)
    find(".smooth").onchange = (event) => this.root.classList.toggle("is-smooth", event.target.checked)
    find(".previous").onclick = () => this.step(-1)
    find(".next").onclick = () => this.step(1)
    find(".play").onclick = () => this.toggle()
    find(".position").oninput = (event) => { this.pause(); this.showFrame(Number(event.target.value)) }
    find(".position").onchange = () => this.stop()
  }

  makeActions() {
    const file = (name, kind) => ({ name, path: `s/animation.${kind}` })
    this.actions = new Actions(this.find(".actions"), {
      base: this.base,
      page: () => "interpolate?" + query(this.pinned()),
      query: () => "v=1&kind=interpolate&" + query(this.pinned()),
      files: [
        file("GIF", "gif"),
        file("WebP", "webp"),
        ...(this.data.has_video ? [file("MP4", "mp4")] : []),
        { name: "PNG", path: "s/image.png" },
        { name: "HTML", save: () => this.saveStandalone() },
      ],
    })
  }

  change(values, delay = 0) {
    Object.assign(this.state, values)
    const { state } = this
    state.frames = Math.max(2, Math.min(state.frames, Math.floor((MAX_ALL_FRAMES - 1) / (state.stops.length - 1)) + 1))
    if (state.frame !== null) state.frame = Math.min(state.frame, this.number - 1)
    this.show()
    this.draw()
    this.commit(delay)
  }

  changeStop(k, values, delay = 0) {
    const hold = this.find(".hold").checked && "seed" in values
    const stops = this.state.stops.map((stop, at) => (at === k ? { ...stop, ...values } : hold ? { ...stop, seed: values.seed } : stop))
    this.change({ stops }, delay)
  }

  // Give all stops the style of the first one, or the others seeds of their own.
  hold(isHeld) {
    const [{ seed }] = this.state.stops
    this.change({ stops: this.state.stops.map((stop, k) => ({ ...stop, seed: isHeld || !k ? seed : randomSeed() })) })
  }

  moveStop(k, to) {
    const stops = [...this.state.stops]
    stops.splice(to, 0, ...stops.splice(k, 1))
    this.change({ stops })
  }

  addStop() {
    const last = this.state.stops.at(-1)
    const classes = this.data.classes.length
    const digit = classes ? (last.digit + 1) % classes : null
    const seed = this.find(".hold").checked ? last.seed : randomSeed()
    this.change({ stops: [...this.state.stops, { digit, seed }] })
  }

  // --- Drawing

  get number() { return (this.state.stops.length - 1) * (this.state.frames - 1) + 1 }

  draw() {
    this.drawStops()
    return this.drawFrames()
  }

  async drawFrames() {
    const { stops, path, frames } = this.state
    const text = "kind=interpolate&" + query({ ...this.pinned(), frame: null })
    const job = { path: { stops, kind: path, frames }, asked: this.asked }
    await this.painted(job, text, "frames", this.number, (pictures) => this.paintFrames(pictures))
  }

  drawStops() {
    const canvases = this.root.querySelectorAll(".stop canvas")
    this.state.stops.forEach(({ digit, seed }, k) => {
      const job = { pictures: [{ digit, seed }], truncation: 1, asked: this.asked }
      const text = "kind=generate&" + query({ ...this.scope, digits: digit, count: 1, seed, truncation: 1 })
      if (this.drawer.isReady || !this.pictures) this.painted(job, text, `stop ${k}`, 1, (pictures) => paint(canvases[k], pictures))
      else this.paintStopsFromFrames()
    })
  }

  paintStopsFromFrames() {
    const { stops, frames } = this.state
    const canvases = this.root.querySelectorAll(".stop canvas")
    if (this.pictures?.count === this.number) stops.forEach((_, k) => paint(canvases[k], this.pictures, k * (frames - 1)))
  }

  async painted(job, text, lane, count, show) {
    const { drawer } = this
    try {
      const pictures = await drawer.draw(job, "v=1&" + text, lane, count)
      if (pictures && drawer === this.drawer) show(pictures)
    } catch (error) {
      this.find(".state").textContent = `These pictures could not be drawn: ${error.message}.`
    }
  }

  paintFrames(pictures) {
    if (pictures.count !== this.number) return
    this.pictures = pictures
    this.find(".position").max = pictures.count - 1
    this.index = Math.min(this.index, pictures.count - 1)
    const strip = this.find(".strip")
    while (strip.childElementCount > pictures.count) strip.lastChild.remove()
    while (strip.childElementCount < pictures.count) strip.append(this.makeFrame(strip.childElementCount))
    strip.childNodes.forEach((button, k) => {
      paint(button.firstChild, pictures, k)
      button.classList.toggle("is-stop", k % (this.state.frames - 1) === 0)
      button.setAttribute("aria-label", this.words(k))
      button.title = `Frame ${k + 1}`
    })
    if (!this.drawer.isReady) this.paintStopsFromFrames()
    this.showDistances(pictures)
    this.showFrame(this.index)
  }

  makeFrame(k) {
    const button = Object.assign(document.createElement("button"), { type: "button" })
    button.append(document.createElement("canvas"))
    button.onclick = () => { this.pause(); this.showFrame(k); this.stop() }
    return button
  }

  // Draw the mean difference of the pixels of each two neighbouring frames as bars.
  showDistances({ pixels, count, height, width, channels }) {
    const size = height * width * channels
    const steps = Array.from({ length: count - 1 }, (_, k) => {
      let sum = 0
      for (let i = k * size; i < (k + 1) * size; i++) sum += Math.abs(pixels[i + size] - pixels[i])
      return sum / size
    })
    const most = Math.max(...steps, 1e-9)
    const chart = this.find(".distances")
    chart.setAttribute("viewBox", `0 0 ${steps.length} 100`)
    chart.replaceChildren(...steps.map((step, k) => {
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect")
      const tall = Math.max((100 * step) / most, 1)
      for (const [name, value] of Object.entries({ x: k + 0.1, y: 100 - tall, width: 0.8, height: tall })) bar.setAttribute(name, value)
      return bar
    }))
    const mean = steps.reduce((sum, step) => sum + step, 0) / steps.length
    const at = steps.indexOf(Math.max(...steps))
    const text = `The largest step, from frame ${at + 1} to ${at + 2}, changes a pixel by ${most.toFixed(1)} of 255 grey levels on average; the mean step by ${mean.toFixed(1)}.`
    this.find(".distances-help").textContent = text
    chart.setAttribute("aria-label", text)
  }

  // --- Playing

  showFrame(index) {
    this.index = index
    if (!this.pictures) return
    paint(this.find(".stage"), this.pictures, index)
    this.find(".stage").setAttribute("aria-label", this.words(index))
    this.find(".position").value = index
    const label = `Frame ${index + 1} of ${this.pictures.count}`
    this.find(".position").setAttribute("aria-valuetext", label)
    this.find(".caption").textContent = label
    this.find(".strip").childNodes.forEach((button, k) => button.setAttribute("aria-current", String(k === index)))
    this.find(".distances").childNodes.forEach((bar, k) => bar.classList.toggle("current", k === index || k === index - 1))
  }

  // Describe what a frame shows.
  words(index) {
    const { stops, frames } = this.state
    const leg = Math.min(Math.floor(index / (frames - 1)), stops.length - 2)
    const part = Math.round((100 * (index - leg * (frames - 1))) / (frames - 1))
    return `${part}% of the way from ${this.named(stops[leg])} to ${this.named(stops[leg + 1])}`
  }

  named({ digit, seed }) {
    return digit === null ? `seed ${seed}` : `${this.data.classes[digit].one} (seed ${seed})`
  }

  play() {
    this.isPlaying = true
    this.state.frame = null
    if (this.state.play === "once" && this.index === this.number - 1) this.showFrame(0)
    this.schedule()
    this.labelPlay()
  }

  toggle() {
    if (this.isPlaying) this.stop()
    else this.play()
  }

  schedule() {
    clearTimeout(this.playing)
    const milliseconds = this.state.fps ? 1000 / this.state.fps : 80
    const isEnd = this.index === 0 || this.index === this.number - 1
    this.playing = setTimeout(() => this.advance(), milliseconds * (isEnd ? HOLD : 1))
  }

  advance() {
    const last = this.number - 1
    const { play } = this.state
    if (play === "once" && this.index >= last) return this.stop()
    if (play === "" && this.index >= last) this.direction = -1
    if (play !== "" || this.index <= 0) this.direction = 1
    const next = this.index + this.direction
    this.showFrame(next > last ? 0 : next)
    this.schedule()
  }

  pause() {
    clearTimeout(this.playing)
    this.isPlaying = false
    this.labelPlay()
  }

  // Stop at the frame that is shown: from now on, it is part of the link.
  stop() {
    this.pause()
    this.state.frame = this.index
    this.commit()
  }

  step(move) {
    this.pause()
    this.showFrame(Math.max(0, Math.min(this.number - 1, this.index + move)))
    this.stop()
  }

  labelPlay() {
    this.root.classList.toggle("playing", Boolean(this.isPlaying))
    const button = this.find(".play")
    button.setAttribute("aria-label", this.isPlaying ? "Pause" : "Play")
    button.title = this.isPlaying ? "Pause (P)" : "Play (P)"
  }

  // --- Widgets

  show() {
    this.showStops()
    this.showOptions()
  }

  showOptions() {
    const { stops, path, frames, play, fps, writer } = this.state
    const { find } = this
    find(".frames").value = frames
    find(".frames").max = Math.min(64, Math.floor((MAX_ALL_FRAMES - 1) / (stops.length - 1)) + 1)
    find(".frames-value").textContent = stops.length > 2 ? `${frames} a leg, ${this.number} in all` : frames
    for (const button of this.root.querySelectorAll(".path button")) {
      button.setAttribute("aria-pressed", String(button.dataset.path === path))
    }
    find(".mode").value = play
    find(".fps").value = fps ?? FPS
    find(".fps-value").textContent = `${fps ?? FPS} frames/s`
    if (readWriter(find(".writer").value, this.data.writers) !== writer) find(".writer").value = writer ?? ""
    find(".anyone").disabled = writer === null
    find(".hold").checked = stops.every(({ seed }) => seed === stops[0].seed)
  }

  // Make the cards anew when their number changes; otherwise only write their values, so that the focus stays.
  showStops() {
    const { stops } = this.state
    const list = this.find(".stops")
    const cards = list.querySelectorAll(".stop")
    if (cards.length !== stops.length || list.dataset.version !== this.version) {
      list.dataset.version = this.version
      this.select(null)
      const add = iconButton("add", "Add a stop", () => this.addStop())
      add.className = "add"
      add.append("Add a stop")
      list.replaceChildren(...stops.map((_, k) => this.makeStop(k)))
      this.find(".add-place").replaceChildren(...(stops.length < MAX_STOPS ? [add] : []))
    }
    list.querySelectorAll(".stop").forEach((card, k) => {
      const { digit, seed } = stops[k]
      if (digit !== null) card.querySelector("select").value = digit
      const input = card.querySelector("input")
      if (readSeed(input.value) !== seed) input.value = seed
      card.querySelector("canvas").setAttribute("aria-label", digit === null ? `Seed ${seed}` : `${this.data.classes[digit].picture}, seed ${seed}`)
    })
  }

  makeStop(k) {
    const number = this.state.stops.length
    const name = k === 0 ? "From" : k === number - 1 ? "To" : `Stop ${k + 1}`
    const card = Object.assign(document.createElement("div"), { className: "stop" })
    card.setAttribute("role", "listitem")
    const { noun, classes } = this.data
    card.innerHTML = `
      <canvas width="28" height="28" role="img" draggable="true"></canvas>
      <label class="digit-field"><span></span><select></select></label>
      <label><span></span><span class="seed-line"><input type="text" inputmode="numeric" maxlength="13" autocomplete="off"></span></label>
      <div class="stop-foot"><span></span></div>`
    const [digitTitle, seedTitle] = card.querySelectorAll("label > span:first-child")
    digitTitle.textContent = capital(noun)
    seedTitle.textContent = "Seed"
    const select = card.querySelector("select")
    select.setAttribute("aria-label", `${name} ${noun}`)
    select.append(...classes.map((each, label) => Object.assign(document.createElement("option"), { value: label, textContent: each.name })))
    select.onchange = () => this.changeStop(k, { digit: Number(select.value) })
    const input = card.querySelector("input")
    input.setAttribute("aria-label", `${name} seed`)
    input.oninput = () => this.typeSeed(k, name, input)
    input.parentElement.append(iconButton("dice", `New seed for ${name.toLowerCase()}`, () => this.changeStop(k, { seed: randomSeed() })))
    const foot = card.querySelector(".stop-foot")
    foot.querySelector("span").textContent = name
    const left = iconButton("left", `Move ${name.toLowerCase()} left`, () => this.moveStop(k, k - 1))
    const right = iconButton("right", `Move ${name.toLowerCase()} right`, () => this.moveStop(k, k + 1))
    const remove = iconButton("remove", `Remove ${name.toLowerCase()}`, () => this.change({ stops: this.state.stops.filter((_, at) => at !== k) }))
    left.disabled = k === 0
    right.disabled = k === number - 1
    remove.disabled = number === 2
    foot.append(left, right, remove)
    for (const name of ["pointerdown", "focusin"]) card.addEventListener(name, () => this.select(k))
    this.makeDraggable(card, k)
    return card
  }

  select(selected) {
    this.selected = selected
    this.root.querySelectorAll(".stop").forEach((card, k) => {
      if (k === selected) card.setAttribute("aria-current", "true")
      else card.removeAttribute("aria-current")
    })
  }

  makeDraggable(card, k) {
    card.ondragstart = (event) => {
      this.draggedStop = k
      event.dataTransfer.effectAllowed = "move"
      card.classList.add("dragged")
    }
    card.ondragend = () => { this.draggedStop = null; card.classList.remove("dragged") }
    card.ondragover = (event) => { if (this.draggedStop != null) event.preventDefault() }
    card.ondrop = (event) => {
      event.preventDefault()
      if (this.draggedStop != null && this.draggedStop !== k) this.moveStop(this.draggedStop, k)
    }
  }

  typeSeed(k, name, input) {
    const seed = readSeed(input.value)
    const text = `${name} seed: a seed is a whole number from 0 to 4,294,967,295. Still shown: seed ${this.state.stops[k].seed}.`
    this.problem(seed === null ? text : "", input)
    if (seed !== null && seed !== this.state.stops[k].seed) this.changeStop(k, { seed }, REPORT_AFTER)
  }

  chooseWriter(writer) {
    const input = this.find(".writer")
    input.value = writer ?? ""
    this.problem("", input)
    this.change({ writer })
  }

  typeWriter(input) {
    const writer = readWriter(input.value, this.data.writers)
    const shown = this.state.writer === null ? "anyone" : `writer ${this.state.writer}`
    this.problem(writer === undefined ? `No writer has this number. Still shown: ${shown}.` : "", input)
    if (writer !== undefined && writer !== this.state.writer) this.change({ writer }, REPORT_AFTER)
  }

  // Show what is wrong with the value of a field; an empty text: nothing.
  problem(text, input) {
    input.setAttribute("aria-invalid", String(Boolean(text)))
    this.find(".problem").hidden = !text
    this.find(".problem").textContent = text
  }

  // Save one HTML file that plays these frames without a network.
  async saveStandalone() {
    await this.drawFrames()
    const { play, fps } = this.state
    const title = `From ${this.named(this.state.stops[0])} to ${this.named(this.state.stops.at(-1))}`
    const link = new URL("s?v=1&kind=interpolate&" + query(this.pinned()), this.base).href
    const content = standalone(this.pictures, { title, link, milliseconds: fps ? 1000 / fps : 80, play })
    const anchor = document.createElement("a")
    anchor.href = URL.createObjectURL(new Blob([content], { type: "text/html" }))
    anchor.download = "interpolation.html"
    anchor.click()
    setTimeout(() => URL.revokeObjectURL(anchor.href), 60_000)
  }
}

function capital(word) {
  return word[0].toUpperCase() + word.slice(1)
}

function iconButton(icon, name, act) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "icon", title: name })
  button.setAttribute("aria-label", name)
  button.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true">${ICONS[icon]}</svg>`
  button.onclick = act
  return button
}
