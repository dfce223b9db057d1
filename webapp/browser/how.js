// The page How it works: a story in parts. The browser changes parts at once, and the server sends their content.

import { paint } from "./drawer.js"
import { DIGITS, Keys, copyLink } from "./keys.js"
import { query, randomSeed } from "./values.js"

const FAINT = 0.15 // share of the strongest objection below which one is not shown
const RED = [255, 77, 61]
const BLUE = [77, 139, 255]
const SVG = "http://www.w3.org/2000/svg"

export default class How {
  constructor(parent) {
    this.find = (name) => parent.querySelector(name)
    this.root = this.find(".how")
    this.sections = [...this.root.querySelectorAll(".part")]
    this.version = null
    for (const term of this.root.querySelectorAll("dfn")) term.replaceWith(this.term(term))
    this.find(".dots").append(...this.sections.map((section, index) => this.dot(section, index + 1)))
    this.find(".back").onclick = () => this.go(this.state.part - 1)
    this.find(".next").onclick = () => this.go(this.state.part + 1)
    this.find(".onward").onclick = () => { this.go(this.state.part + 1); this.root.scrollIntoView({ block: "start" }); this.section.querySelector("h2").focus() }
    this.find(".roll").onclick = () => this.change({ seed: randomSeed() })
    this.keys = new Keys(this.root, this.find(".keys-place"), () => this.keyRows())
  }

  // --- The server's side

  update(data, report) {
    this.report = report
    const isNew = data.version !== this.version || data.scope.run !== this.data?.scope.run
    this.data = data
    if (isNew) {
      this.version = data.version
      this.state = { ...data.view }
      this.build()
    }
    this.showPart()
    this.root.dataset.isReady = ""
    const { part, digit, seed } = data.content
    if (part !== this.state.part || digit !== this.state.digit || seed !== this.state.seed) return // one of a later change comes
    this.showContent(data.content)
  }

  close() {
    this.keys.close()
  }

  commit() {
    const { part, digit, seed, epoch } = this.state
    this.report({ version: this.version, text: query({ ...this.data.scope, part, digit, seed, epoch }) })
  }

  // --- The visitor's side

  keyRows() {
    const { classes, things } = this.data
    const digits = this.section.querySelector(".slot") ? DIGITS.slice(0, classes.length) : []
    return [
      { keys: ["ArrowLeft", "ArrowRight"], words: "Previous or next part", act: (key) => this.go(this.state.part + (key === "ArrowLeft" ? -1 : 1)) },
      ...(digits.length ? [{ keys: digits, words: `Choose the ${things === "digits" ? "digit" : "class"}`, act: (key) => this.change({ digit: Number(key) }) }] : []),
      { keys: ["s"], words: "Copy the link", act: copyLink },
    ]
  }

  // Go to a part; return false if there is none.
  go(part) {
    if (part < 1 || part > this.sections.length || part === this.state.part) return false
    this.state.part = part
    this.find(".meaning").hidePopover()
    this.showPart()
    this.find(".told").textContent = `Part ${part} of ${this.sections.length}: ${this.section.querySelector("h2").textContent}`
    this.commit()
  }

  change(values) {
    Object.assign(this.state, values)
    this.showPart()
    this.commit()
  }

  get section() { return this.sections[this.state.part - 1] }

  // --- What stays

  dot(section, part) {
    const item = document.createElement("li")
    const button = make("button", { type: "button" })
    button.append(make("span", { textContent: part }), make("span", { className: "name", textContent: section.dataset.title }))
    button.setAttribute("aria-label", `${part} ${section.dataset.title}`)
    button.title = section.dataset.title
    button.onclick = () => this.go(part)
    item.append(button)
    return item
  }

  // Return a button for a word that the glossary explains.
  term(place) {
    const button = make("button", { type: "button", className: "term", textContent: place.textContent })
    button.onclick = () => this.explain(button, place.dataset.term ?? place.textContent)
    return button
  }

  explain(button, word) {
    const box = this.find(".meaning")
    const text = box.querySelector("p")
    text.replaceChildren(make("b", { textContent: capital(word) }), `: ${this.data.glossary[word]}`)
    box.showPopover({ source: button })
    const { left, bottom, top } = button.getBoundingClientRect()
    const { width, height } = box.getBoundingClientRect()
    box.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 16))}px`
    box.style.top = `${bottom + height + 8 < innerHeight ? bottom + 6 : top - height - 6}px`
    this.find(".told").textContent = text.textContent
  }

  build() {
    const { data } = this
    for (const name of ["run", "thing", "things", "steps", "steps_per_epoch", "batch"]) this.fill(name, data[name])
    const pills = this.find(".pills")
    pills.setAttribute("aria-label", data.things === "digits" ? "Digit" : "Class")
    this.pills = data.classes.map(({ name }, digit) => {
      const pill = make("button", { type: "button", textContent: name })
      pill.onclick = () => this.change({ digit })
      return pill
    })
    pills.replaceChildren(...this.pills)
    const words = Object.entries(data.glossary).flatMap(([word, text]) => [
      make("dt", { textContent: capital(word) }), make("dd", { textContent: text })])
    this.find(".words").replaceChildren(...words)
  }

  // Show the part of the state; its content comes from the server.
  showPart() {
    const { part, digit } = this.state
    for (const section of this.sections) section.hidden = section !== this.section
    this.root.querySelectorAll(".dots button").forEach((button, index) => {
      if (index === part - 1) button.setAttribute("aria-current", "step")
      else button.removeAttribute("aria-current")
    })
    this.find(".back").disabled = part === 1
    this.find(".next").disabled = part === this.sections.length
    const onward = this.find(".onward")
    onward.hidden = part >= 7
    if (!onward.hidden) onward.textContent = `Next: ${this.sections[part].dataset.title}`
    const slot = this.section.querySelector(".slot")
    this.find(".controls").hidden = !slot
    if (slot && !slot.contains(this.find(".controls"))) this.keepingFocus(() => slot.append(this.find(".controls")))
    this.fill("one", this.one)
    this.pills.forEach((pill, index) => pill.setAttribute("aria-pressed", String(index === digit)))
    this.root.classList.add("stale")
  }

  keepingFocus(move) {
    const focused = this.root.getRootNode().activeElement
    move()
    if (focused?.isConnected) focused.focus()
  }

  // --- Content

  showContent(content) {
    this.root.classList.remove("stale")
    const missing = content.missing ?? ""
    this.find(".missing").textContent = missing
    this.find(".missing").hidden = !missing
    this.root.classList.toggle("lacking", Boolean(missing))
    if (missing) return
    const show = [this.showPlayers, this.showEpochs, this.showMotion, this.showCourt, this.showCurves, this.showFailures]
    show[content.part - 1]?.call(this, content)
  }

  canvas(name, bytes, size, label) {
    const canvas = this.section.querySelector(name)
    if (label) canvas.setAttribute("aria-label", label)
    picture(canvas, bytes, size)
  }

  get one() { return this.data.classes[this.state.digit]?.one ?? `a ${this.data.thing}` }

  showPlayers({ latent, fake, real, size }) {
    const side = Math.ceil(Math.sqrt(latent.length))
    const canvas = this.section.querySelector(".latent")
    canvas.width = canvas.height = side
    const context = canvas.getContext("2d")
    const largest = Math.max(...latent.map(Math.abs))
    latent.forEach((number, k) => {
      const grey = Math.round(127.5 * (1 + number / largest))
      context.fillStyle = `rgb(${grey} ${grey} ${grey})`
      context.fillRect(k % side, Math.floor(k / side), 1, 1)
    })
    canvas.setAttribute("aria-label", `${latent.length} random numbers as grey squares`)
    this.section.querySelector(".latent-size").textContent = latent.length
    this.canvas(".fake", fake, size, `A forgery of ${this.one}`)
    this.section.querySelector(".real-side").hidden = !real
    if (real) this.canvas(".real", real, size, `A real picture of ${this.one}`)
  }

  showEpochs({ epochs, rows, column }) {
    const list = this.section.querySelector(".epochs")
    const scored = epochs.filter(({ scores }) => scores.fid !== null)
    const read = epochs.some(({ scores }) => scores.label_accuracy !== null)
    const heads = ["Epoch", "", read ? "Read as asked" : "", scored.length ? "FID" : ""]
    const [real] = scored.map(({ reals }) => reals)
    list.replaceChildren(row("epoch heads", heads, "columnheader"), ...epochs.map((epoch) => this.epoch(epoch, rows, column)))
    if (real) list.append(row("epoch", ["Real", "", percent(real.label_accuracy), fixed(real.fid)]))
    const help = []
    if (read) help.push(`Read as asked: how often ${this.data.things === "digits" ? "a digit reader" : "a reader"} reads what the forger was asked for (label accuracy).`)
    if (scored.length) help.push("FID: how far the pictures as a whole are from real ones; lower is better. Real pictures are not at 0, because two samples of them differ too. A forger can score lower than real pictures by drawing only typical ones.")
    this.section.querySelector(".epochs-help").textContent = help.join(" ")
  }

  epoch({ epoch, url, scores }, rows, column) {
    const number = rows ? Math.min(rows, 10) : 10
    const canvas = make("canvas")
    canvas.setAttribute("role", "img")
    canvas.setAttribute("aria-label", `Pictures after epoch ${epoch}`)
    canvas.style.aspectRatio = `${number}`
    const image = new Image()
    image.onload = () => {
      const tile = image.naturalWidth / 10
      canvas.width = number * tile
      canvas.height = tile
      canvas.style.aspectRatio = `${number * tile} / ${tile}`
      for (let k = 0; k < number; k++) {
        const [x, y] = rows ? [column, k] : [k, 0]
        canvas.getContext("2d").drawImage(image, x * tile, y * tile, tile, tile, k * tile, 0, tile, tile)
      }
    }
    image.src = url
    return row("epoch", [String(epoch), canvas, percent(scores.label_accuracy), fixed(scores.fid)])
  }

  showMotion({ size, real, fake, better, gradient, before, after, improved, reals, epoch }) {
    const say = (name, text) => { this.section.querySelector(name).textContent = text }
    this.canvas(".real", real, size, `A real picture of ${this.one}`)
    this.canvas(".fake", fake, size, `A forgery of ${this.one}`)
    this.canvas(".better", better, size, "The forgery after the forger's move")
    const [from, to] = [bytes(fake), bytes(better)]
    const differences = [...to].map((value, k) => value - from[k])
    const largest = Math.max(1, ...differences.map(Math.abs))
    this.canvas(".objection", fake, size, "The forgery; red where it should be darker, blue where it should be brighter")
    tint(this.section.querySelector(".objection"), [...new Int8Array(bytes(gradient).buffer)].map((value) => value / 127))
    this.canvas(".change", fake, size, "The forgery; red where it is darker now, blue where it is brighter")
    tint(this.section.querySelector(".change"), differences.map((value) => value / largest))
    say(".before-real", signed(before[0]))
    say(".before-fake", signed(before[1]))
    say(".improved", signed(improved))
    say(".scale", `Real pictures of ${this.one} get from ${signed(reals[0])} to ${signed(reals[2])}; half of them less than ${signed(reals[1])}.`)
    const all = [...before, ...after, ...reals]
    const [low, high] = [Math.min(...all), Math.max(...all)]
    const bars = ["Real", "Forged"].map((name, k) => bar(name, before[k], after[k], low, high))
    this.section.querySelector(".bars").replaceChildren(...bars)
    this.fill("judge_epoch", epoch)
  }

  // Write a value where the text names it.
  fill(name, value) {
    for (const place of this.root.querySelectorAll(`var[data-name=${name}]`)) place.textContent = shown(value ?? "some")
  }

  showCourt({ size, reals, epochs, step }) {
    this.fill("judge_step", step)
    const all = [...reals, ...epochs.flatMap(({ own, fakes }) => [own, ...fakes])]
    const scale = { low: Math.min(...all), high: Math.max(...all) }
    const chosen = epochs.some(({ epoch }) => epoch === this.state.epoch) ? this.state.epoch : epochs.at(-1).epoch
    const rows = epochs.map((epoch) => {
      const button = make("button", { type: "button", className: "court-row" })
      button.setAttribute("aria-pressed", String(epoch.epoch === chosen))
      const canvas = make("canvas")
      picture(canvas, epoch.picture, size)
      button.append(canvas, make("span", { textContent: `Epoch ${epoch.epoch}` }), strip(epoch.fakes, "others", scale, epoch.own))
      button.setAttribute("aria-label", `Epoch ${epoch.epoch}: ${this.verdict(epoch.own, reals)}`)
      button.onclick = () => {
        rows.forEach((other) => other.setAttribute("aria-pressed", String(other === button)))
        this.state.epoch = epoch.epoch
        this.tell(epoch, reals)
        this.commit()
      }
      return button
    })
    const real = make("div", { className: "court-row" })
    const number = make("span", { textContent: `${reals.length} real` })
    real.append(make("span"), number, strip(reals, "reals", scale))
    const focused = [...this.section.querySelectorAll("button.court-row")].indexOf(this.root.getRootNode().activeElement)
    this.section.querySelector(".court-rows").replaceChildren(real, ...rows)
    rows[focused]?.focus()
    this.tell(epochs.find(({ epoch }) => epoch === chosen), reals)
  }

  verdict(own, reals) {
    const lower = reals.filter((real) => real < own).length
    return `verdict ${signed(own)}, more real than ${lower} of ${reals.length} real ones`
  }

  tell({ epoch, own }, reals) {
    const text = `The ring is the picture at the left. At epoch ${epoch}: ${this.verdict(own, reals)}. A line marks the middle of each row.`
    if (this.section.querySelector(".court-words").textContent !== text) this.section.querySelector(".court-words").textContent = text
  }

  showCurves({ curves, means }) {
    const names = Object.keys(curves)
    if (!names.length) return this.showContent({ missing: "This run has recorded no curves yet." })
    const accuracy = [["d_acc_real", "real", "on real"], ["d_acc_fake", "fake", "on forged"]]
    const losses = [["d_loss", "d", "detective"], ["g_loss", "g", "forger"]]
    const highest = quantile(losses.flatMap(([name]) => (curves[name] ?? []).map(([, value]) => value)), 0.98)
    chart(this.section.querySelector(".accuracy"), curves, accuracy, { top: 1, guess: 0.5, ticks: [[0, "0 %"], [0.5, "50 %"], [1, "100 %"]] })
    const top = Math.max(1, highest * 1.1)
    chart(this.section.querySelector(".losses"), curves, losses, { top, guess: Math.LN2, ticks: [[0, "0"], [Math.LN2, "0.69"], [top, top.toFixed(1)]] })
    const { epoch, d_acc_real: real, d_acc_fake: fake, d_loss: d, g_loss: g } = means
    const say = (name, text) => { this.section.querySelector(name).textContent = text }
    const has = (...numbers) => numbers.every((number) => typeof number === "number")
    say(".accuracy-now", has(real, fake) ? `In this run, in epoch ${epoch}: ${percent(real)} on real and ${percent(fake)} on forged pictures.` : "")
    say(".losses-now", has(d, g) ? `In this run, in epoch ${epoch}: detective ${d.toFixed(2)}, forger ${g.toFixed(2)}.` : "")
  }

  showFailures({ failures }) {
    this.section.querySelector(".failures").replaceChildren(...failures.map(({ title, words, png, numbers, command }) => {
      const figure = make("article")
      const list = make("ul")
      list.append(...numbers.map((text) => make("li", { textContent: text })))
      const how = make("details")
      how.append(make("summary", { textContent: "Repeat it" }), make("pre", { textContent: command }))
      figure.append(make("h3", { textContent: title }), make("img", { src: png, alt: `Sample grid: ${title}` }), list, make("p", { textContent: words }))
      if (command) figure.append(how)
      return figure
    }))
  }
}

// --- Texts and elements

function make(tag, values = {}) { return Object.assign(document.createElement(tag), values) }

function capital(text) { return text[0].toUpperCase() + text.slice(1) }

function shown(value) { return typeof value === "number" ? value.toLocaleString("en-US") : value }

function percent(value) { return typeof value === "number" ? `${(100 * value).toFixed(1)} %` : "" }

function fixed(value) { return typeof value === "number" ? value.toFixed(2) : "" }

function signed(value) { return value.toFixed(2).replace("-", "\u2212") }

function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(share * (sorted.length - 1))] ?? 1
}

function row(className, cells, role = "cell") {
  const line = make("div", { className })
  line.setAttribute("role", "row")
  line.append(...cells.map((content) => {
    const cell = make("div")
    cell.setAttribute("role", role)
    cell.append(content)
    return cell
  }))
  return line
}

function bar(name, before, after, low, high) {
  const line = make("div", { className: `bar is-${name === "Real" ? "real" : "fake"}` })
  const track = make("div", { className: "track" })
  for (const [className, value] of [["from", before], ["to", after]]) {
    const mark = make("span", { className })
    mark.style.left = `${(100 * (value - low)) / (high - low || 1)}%`
    track.append(mark)
  }
  line.append(make("span", { textContent: name }), track, make("span", { textContent: `${signed(before)} \u2192 ${signed(after)}` }))
  return line
}

// --- Pictures

function bytes(text) { return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)) }

function picture(canvas, text, [channels, height, width]) {
  paint(canvas, { pixels: bytes(text), height, width, channels })
}

// Tint a grey picture by values in [-1, 1]: red where it should be darker, blue where it should be brighter. What cannot
// be is left out: black cannot become darker, nor white brighter.
function tint(canvas, values) {
  const context = canvas.getContext("2d")
  const image = context.getImageData(0, 0, canvas.width, canvas.height)
  values.forEach((value, k) => {
    const grey = image.data[4 * k]
    const isPossible = value < 0 ? grey > 0 : grey < 255
    const share = isPossible ? Math.max(Math.abs(value) - FAINT, 0) / (1 - FAINT) : 0
    const color = value < 0 ? RED : BLUE
    const part = Math.min(1.6 * share, 1)
    for (let c = 0; c < 3; c++) image.data[4 * k + c] = 0.75 * grey * (1 - part) + color[c] * part
  })
  context.putImageData(image, 0, 0)
}

// --- Charts

function draw(tag, attributes, content = "") {
  const element = document.createElementNS(SVG, tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  element.textContent = content
  return element
}

// Return a strip of dots at verdicts, with a line at their median and a ring at `own`.
function strip(values, className, { low, high }, own) {
  const at = (value) => `${2 + (96 * (value - low)) / (high - low || 1)}%`
  const svg = draw("svg", { "aria-hidden": "true" })
  svg.append(draw("line", { class: "rail", x1: 0, x2: "100%", y1: 18, y2: 18 }))
  const dots = values.map((value, k) => draw("circle", { class: className, cx: at(value), cy: 8 + ((k * 7) % 20), r: 4 }))
  const middle = at(quantile(values, 0.5))
  svg.append(...dots, draw("line", { class: "median", x1: middle, x2: middle, y1: 3, y2: 33 }))
  if (own !== undefined) svg.append(draw("circle", { class: "own", cx: at(own), cy: 18, r: 7 }))
  return svg
}

// Draw curves of points (epoch, value): `lines` are [name, color, title], `guess` is a dotted line.
function chart(place, curves, lines, { top, guess, ticks }) {
  const [width, height, left, right, bottom, head] = [440, 220, 42, 8, 34, 22]
  const points = lines.flatMap(([name]) => curves[name] ?? [])
  const last = Math.max(...points.map(([epoch]) => epoch), 1e-9)
  const x = (epoch) => left + ((width - left - right) * epoch) / last
  const y = (value) => head + (height - head - bottom) * (1 - Math.min(Math.max(value / top, 0), 1))
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" })
  svg.setAttribute("aria-label", `${place.parentElement.querySelector("h3").textContent}, over ${Math.round(last)} epochs`)
  for (const [value, text] of ticks) svg.append(draw("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, text))
  svg.append(draw("line", { class: "axis", x1: left, x2: width - right, y1: y(0), y2: y(0) }))
  svg.append(draw("line", { class: "guess", x1: left, x2: width - right, y1: y(guess), y2: y(guess) }))
  svg.append(draw("text", { x: left, y: height - 18 }, "0"), draw("text", { x: width - right, y: height - 18, "text-anchor": "end" }, `${Math.round(last)}`))
  svg.append(draw("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, "epoch"))
  lines.forEach(([name, color, title], k) => {
    const path = (curves[name] ?? []).map(([epoch, value], index) => `${index ? "L" : "M"}${x(epoch).toFixed(1)} ${y(value).toFixed(1)}`).join("")
    svg.append(draw("path", { class: `line key-${color}`, d: path }))
    const start = left + k * 130
    svg.append(draw("line", { class: `line key-${color}`, x1: start, x2: start + 18, y1: 9, y2: 9 }), draw("text", { x: start + 24, y: 13 }, title))
  })
  place.replaceChildren(svg)
}
