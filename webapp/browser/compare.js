// The Compare page: the same latents drawn by two generators, side by side. The browser draws both as soon as the visitor
// changes something; until then, and for generators that are too large for it, the server does.

import { Charts } from "./charts.js"
import { Drawer, paint } from "./drawer.js"
import { DIGITS, Keys, copyLink } from "./keys.js"
import { MAX_SEED, digits as digitsText, query, randomSeed, seed as readSeed, share } from "./values.js"

const REPORT_AFTER = 400 // milliseconds after the last key, before the server hears of it
const BETTER = { higher: "higher is better", lower: "lower is better", "like real": "best near real" }

export default class Compare {
  constructor(parent, base) {
    this.base = base
    this.root = parent.querySelector(".df-compare")
    this.find = (name) => this.root.querySelector(name)
    this.version = null
    this.drawers = [null, null]
    this.listen()
    this.keys = new Keys(this.root, this.find(".keys-place"), () => this.keyRows())
  }

  // --- The server's side

  update(data, report) {
    const before = this.data
    const isNew = data.version !== this.version
    this.data = data
    this.report = report
    this.charts ??= new Charts(this.find(".charts"), new URL(data.plotly, this.base).href, { peek() {}, leave() {}, go() {} })
    data.sides.forEach((side, k) => {
      if (before && before.sides[k].scope.g === side.scope.g) return
      this.drawers[k]?.close()
      this.drawers[k] = new Drawer(this.base, side)
      if (this.isAwake) this.wakeOne(k)
    })
    if (isNew) {
      this.version = data.version
      clearTimeout(this.timer)
      this.state = { ...data.view }
    } else if (this.state.digits) {
      const known = this.state.digits.filter((digit) => digit < data.classes.length)
      this.state.digits = known.length ? known : data.view.digits
    } else {
      this.state.digits = data.view.digits
    }
    this.build()
    this.show()
    this.draw()
    this.root.dataset.isReady = ""
    this.find(".curves").hidden = !data.charts.length
    this.charts.update(data.charts).catch((error) => this.tell(error.message))
  }

  // Load both generators, from the first sign on that the visitor wants to change something.
  wake() {
    if (this.isAwake || !this.data) return
    this.isAwake = true
    this.drawers.forEach((_, k) => this.wakeOne(k))
  }

  wakeOne(k) {
    this.drawers[k].wake((text) => this.tell(text))
  }

  commit(delay = 0) {
    clearTimeout(this.timer)
    const { digits, count, seed, truncation } = this.state
    const text = query({ digits: digits && digitsText(digits), count, seed, truncation: share(truncation) })
    this.timer = setTimeout(() => this.report({ version: this.version, text }), delay)
  }

  close() {
    clearTimeout(this.timer)
    this.keys.close()
    this.charts?.close()
    for (const drawer of this.drawers) drawer?.close()
  }

  // --- The visitor's side

  keyRows() {
    const { classes, noun } = this.data
    const digits = DIGITS.slice(0, classes.length)
    return [
      ...(digits.length ? [{ keys: digits, words: `Choose a ${noun}, or leave it out`, act: (key) => this.toggle(Number(key)) }] : []),
      { keys: ["s"], words: "Copy the link", act: copyLink },
    ]
  }

  listen() {
    for (const name of ["pointerenter", "pointermove", "focusin"]) this.root.addEventListener(name, () => this.wake())
    this.find(".seed").oninput = (event) => this.typeSeed(event.target.value)
    this.find(".roll").onclick = () => this.change({ seed: randomSeed() })
    this.find(".truncation").oninput = (event) => this.change({ truncation: Number(event.target.value) }, REPORT_AFTER)
    this.find(".count").oninput = (event) => {
      const count = Number(event.target.value)
      this.change({ count, seed: Math.min(this.state.seed, MAX_SEED + 1 - count) }, REPORT_AFTER)
    }
    const sides = this.find(".sides")
    sides.onpointerover = (event) => this.mark([...(event.target.closest(".grid")?.children ?? [])].indexOf(event.target))
    sides.onpointerleave = () => this.mark(-1)
  }

  change(values, delay = 0) {
    Object.assign(this.state, values)
    this.show()
    this.draw()
    this.commit(delay)
  }

  typeSeed(text) {
    const max = MAX_SEED + 1 - this.state.count
    const seed = readSeed(text, max)
    this.find(".seed").setAttribute("aria-invalid", String(seed === null))
    this.problem(seed === null ? `A seed is a whole number from 0 to ${max.toLocaleString("en-US")}. Still shown: seed ${this.state.seed}.` : "")
    if (seed !== null && seed !== this.state.seed) this.change({ seed }, REPORT_AFTER)
  }

  toggle(digit) {
    const all = this.data.classes.map((_, label) => label)
    const { digits } = this.state
    const next = digits.length === all.length ? [digit] : all.filter((label) => digits.includes(label) !== (label === digit))
    this.change({ digits: next.length ? next : all })
  }

  // --- What is shown

  build() {
    const { classes, noun, matched, sides, scores } = this.data
    this.find(".digits").hidden = !classes.length
    this.find("#compare-digits").textContent = noun === "class" ? "Classes" : "Digits"
    this.find(".matched").textContent = matched
    this.find(".matched").hidden = !matched
    const names = JSON.stringify(classes)
    if (this.names !== names) {
      this.names = names
      this.find(".pills").replaceChildren(...classes.map((name, label) => {
        const button = Object.assign(document.createElement("button"), { type: "button", textContent: name })
        button.onclick = () => this.toggle(label)
        return button
      }))
    }
    this.root.querySelectorAll("figcaption").forEach((caption, k) => { caption.textContent = sides[k].title })
    this.find(".scores").hidden = !scores.length
    const heads = this.root.querySelectorAll("thead th")
    sides.forEach(({ title }, k) => { heads[1 + k].textContent = title })
    this.find("tbody").replaceChildren(...scores.map(({ title, better, values }) => {
      const line = document.createElement("tr")
      const head = Object.assign(element("th", title + " "), { scope: "row" })
      head.append(Object.assign(element("span", BETTER[better]), { className: "better" }))
      line.append(head, ...values.map((value) => element("td", value)))
      return line
    }))
  }

  show() {
    const { digits, count, seed, truncation } = this.state
    const isAll = digits && digits.length === this.data.classes.length
    this.find(".pills").childNodes.forEach((button, label) => {
      button.setAttribute("aria-pressed", String(!isAll && digits.includes(label)))
    })
    if (readSeed(this.find(".seed").value) !== seed) this.find(".seed").value = seed
    this.find(".count").value = count
    this.find(".count-value").textContent = count
    this.find(".truncation").value = truncation
    this.find(".truncation-value").textContent = truncation.toFixed(2)
    this.data.sides.forEach((side, k) => this.showGrid(side, this.root.querySelectorAll(".grid")[k]))
  }

  // Make the cells of a grid: one row for each digit. A generator without classes has one row.
  showGrid(side, grid) {
    const { count, seed } = this.state
    const rows = this.rows(side)
    grid.style.setProperty("--columns", count)
    while (grid.childElementCount > rows.length * count) grid.lastChild.remove()
    while (grid.childElementCount < rows.length * count) {
      const canvas = Object.assign(document.createElement("canvas"), { width: side.size[1], height: side.size[0] })
      canvas.setAttribute("role", "img")
      grid.append(canvas)
    }
    ;[...grid.children].forEach((canvas, k) => {
      const digit = rows[Math.floor(k / count)]
      const name = digit === null ? side.thing : side.picture[digit]
      canvas.setAttribute("aria-label", `${name}, seed ${seed + (k % count)}, by ${side.title}`)
    })
  }

  rows({ number }) { return number && this.state.digits ? this.state.digits : [null] }

  draw() {
    const { count, seed, truncation } = this.state
    const seeds = Array.from({ length: count }, (_, k) => seed + k)
    this.data.sides.forEach(async (side, k) => {
      const rows = this.rows(side)
      const drawer = this.drawers[k]
      const job = { pictures: rows.flatMap((digit) => seeds.map((each) => ({ digit, seed: each }))), truncation, asked: {} }
      const labels = rows[0] === null ? null : digitsText(rows)
      const text = query({ v: 1, kind: "generate", ...side.scope, digits: labels, count, seed, truncation: share(truncation) })
      const grid = this.root.querySelectorAll(".grid")[k]
      try {
        const pictures = await drawer.draw(job, text, "grid", rows.length * count)
        if (!pictures || drawer !== this.drawers[k] || grid.childElementCount !== pictures.count) return
        ;[...grid.children].forEach((canvas, index) => paint(canvas, pictures, index))
        grid.dataset.drawn = text
      } catch (error) {
        this.tell(`This picture could not be drawn: ${error.message}.`)
      }
    })
  }

  // Outline the pictures of the same latent in both grids.
  mark(index) {
    for (const grid of this.root.querySelectorAll(".grid")) {
      ;[...grid.children].forEach((canvas, k) => canvas.classList.toggle("same", k === index))
    }
  }

  tell(text) {
    this.find(".state").textContent = text
  }

  problem(text) {
    this.find(".problem").textContent = text
    this.find(".problem").hidden = !text
  }
}

function element(name, text) {
  return Object.assign(document.createElement(name), { textContent: text })
}
