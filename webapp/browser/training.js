// The Training page: one position, an epoch, in the grid, the scores, the curves and the visitor's own picture. The browser
// has all epochs in advance, so dragging and playing never wait for the server, which hears of the epoch afterwards.

import { Charts } from "./charts.js"
import { paint } from "./drawer.js"
import { Keys, copyLink } from "./keys.js"
import { recall, remember } from "./memory.js"
import { OwnPicture } from "./own_picture.js"
import { following, query, randomSeed, seed as readSeed } from "./values.js"

const PLAYED = "training.played"
const BETTER = { higher: "higher is better", lower: "lower is better", "like real": "best near real" }

export default class Training {
  constructor(parent, base) {
    this.base = base
    this.root = parent.querySelector(".df-training")
    this.find = (name) => this.root.querySelector(name)
    this.version = null
    this.data = { epochs: [] }
    this.index = 0
    this.peeked = null // index of the epoch under the pointer on a chart
    this.isTouched = false // whether the visitor has chosen an epoch
    this.frame = null
    this.timer = null
    this.place = null // the visitor's own picture
    this.number = 0 // of reports
    this.images = new Map() // URL -> Image
    this.own = new OwnPicture(base, {
      show: (pictures, isKept) => this.showOwn(pictures, isKept),
      tell: (text) => this.tellOwn(text),
    })
    this.listen()
    this.keys = new Keys(this.root, this.find(".keys-place"), () => this.keyRows())
  }

  // --- The server's side

  update(data, report) {
    const wasLast = this.index === this.last
    this.data = data
    this.report = report
    this.charts ??= new Charts(this.find(".charts"), new URL(data.plotly, this.base).href, {
      peek: (epoch) => this.peek(this.nearest(epoch)),
      leave: () => this.peek(null),
      go: (epoch) => this.go(this.nearest(epoch)),
    })
    this.build()
    const isNew = data.version !== this.version
    if (isNew) {
      this.version = data.version
      this.pause()
      this.isTouched = false
      this.index = data.index ?? Math.max(this.last, 0)
      this.place = data.picture
      this.peeked = null
      this.number = data.answers
    } else if (wasLast && !this.timer) {
      this.index = Math.max(this.last, 0)
    }
    this.answer()
    this.index = Math.max(Math.min(this.index, this.last), 0)
    this.showOwnFields(isNew)
    this.show()
    this.preload()
    this.labelPlay()
    this.root.dataset.isReady = ""
    this.charts.update(data.charts).then(() => this.charts.mark(this.shown?.epoch ?? null), (error) => {
      this.find(".charts-problem").textContent = error.message
      this.find(".charts-problem").hidden = false
    })
    if (this.place) this.drawOwn()
    if (isNew) this.autoplay()
  }

  // Take over what the server has read from a link.
  answer() {
    const { answers, problem, picture } = this.data
    if (!this.isAsking || answers !== this.number) return
    this.isAsking = false
    this.problem(problem)
    if (problem) return
    this.place = picture
    this.find(".own-link").value = ""
    this.showOwnFields(true)
  }

  // Tell the server what is shown; `pasted` is a link that it is to read. Without an epoch it follows the newest.
  commit(pasted = "") {
    const { epoch } = this.data.epochs[this.index] ?? {}
    const text = query({ epoch: this.index === this.last ? null : epoch, ...this.place?.own })
    this.number++
    this.isAsking = Boolean(pasted)
    this.report({ version: this.version, text, pasted, number: this.number })
    this.find(".announced").textContent = this.announcement()
  }

  close() {
    this.keys.close()
    this.pause()
    this.charts?.close()
    this.own.close()
  }

  // --- The visitor's side

  keyRows() {
    return [
      { keys: ["ArrowLeft", "ArrowRight"], words: "Previous or next epoch", act: (key) => this.go(this.index + (key === "ArrowLeft" ? -1 : 1)) },
      ...(this.last > 0 ? [{ keys: ["p"], words: "Play or pause", act: () => this.toggle() }] : []),
      { keys: ["s"], words: "Copy the link", act: copyLink },
    ]
  }

  listen() {
    this.find(".previous").onclick = () => this.go(this.index - 1)
    this.find(".next").onclick = () => this.go(this.index + 1)
    this.find(".play").onclick = () => this.toggle()
    const range = this.find(".position")
    range.oninput = () => { this.pause(); this.move(Number(range.value)) }
    range.onchange = () => this.commit()
    this.find(".own-draw").onclick = () => this.chooseOwn()
    this.find(".own-digit").onchange = () => { if (this.place) this.chooseOwn() }
    this.find(".own-seed").onkeydown = (event) => { if (event.key === "Enter") this.chooseOwn() }
    this.find(".paste").onsubmit = (event) => {
      event.preventDefault()
      const link = this.find(".own-link").value.trim()
      if (link) this.commit(link)
    }
  }

  get last() { return this.data.epochs.length - 1 }

  // The epoch that is shown: the one under the pointer on a chart, or else the slider's.
  get shown() { return this.data.epochs[this.peeked ?? this.index] }

  // Return the index of the epoch that is closest to a place on the axis of epochs.
  nearest(place) {
    const distances = this.data.epochs.map(({ epoch }) => Math.abs(epoch - place))
    return distances.indexOf(Math.min(...distances))
  }

  // Move the slider. All of the page follows before the next frame of the screen, however often the pointer reports.
  move(index) {
    this.index = index
    this.peeked = null
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.show() })
  }

  // Go to an epoch; return false if there is none.
  go(index) {
    if (index < 0 || index > this.last) return false
    this.pause()
    this.index = index
    this.peeked = null
    this.show()
    this.commit()
  }

  peek(index) {
    if (this.timer || index === this.peeked || (index !== null && index < 0)) return
    this.peeked = index
    this.show()
  }

  // Play a training from its start once, for a visitor who comes for the first time and without a link to an epoch.
  async autoplay() {
    if (this.data.index !== null || this.data.is_live || this.last < 1) return
    if (matchMedia("(prefers-reduced-motion: reduce)").matches || isPlayed()) return
    const { version } = this
    await Promise.all([...this.images.values()].map((image) => image.decode().catch(() => {})))
    if (version === this.version && !this.timer && this.index === this.last && !this.isTouched) this.play()
  }

  play() {
    if (this.index === this.last) this.index = 0
    this.peeked = null
    this.timer = setInterval(() => this.advance(), this.data.interval)
    this.show()
    this.labelPlay()
  }

  toggle() {
    if (this.timer) this.stop()
    else this.play()
  }

  advance() {
    if (this.index < this.last) {
      this.index++
      this.show()
    } else {
      this.stop()
    }
  }

  pause() {
    this.isTouched = true
    clearInterval(this.timer)
    this.timer = null
    this.labelPlay()
  }

  stop() {
    this.pause()
    this.commit()
  }

  labelPlay() {
    const button = this.find(".play")
    const playing = Boolean(this.timer)
    this.root.classList.toggle("playing", playing)
    button.setAttribute("aria-label", playing ? "Pause" : "Play")
    button.title = playing ? "Pause (P)" : "Play (P)"
  }

  // --- The grid, the scores, the curves

  // Build what does not depend on the epoch.
  build() {
    const { stage: [width, height, wide], rows, words, scores, weights } = this.data
    this.root.style.setProperty("--stage", wide + "px")
    const canvas = this.find(".stage")
    if (!canvas.dataset.isDrawn) Object.assign(canvas, { width, height })
    this.root.classList.toggle("one", this.last < 1)
    this.root.classList.toggle("none", this.last < 0)
    this.find(".position").max = Math.max(this.last, 0)
    const names = JSON.stringify(rows)
    if (this.names !== names) {
      this.names = names
      this.find(".rows").replaceChildren(...rows.map((text) => element("span", text)))
      this.find(".picture").classList.toggle("named", rows.some((text) => text.length > 3))
    }
    this.find(".about").textContent = words
    this.find(".own").hidden = !this.data.epochs.some(({ scope }) => scope)
    this.weightsNote = weights ? `Loads the generator of each epoch, ${weights} in all.` : ""
    this.buildScores(scores)
  }

  buildScores({ rows, things }) {
    const section = this.find(".scores")
    section.hidden = !rows.length
    const signature = JSON.stringify(rows)
    if (this.scoreRows === signature) return
    this.scoreRows = signature
    this.cells = new Map()
    const lines = rows.map(({ name, title, better }) => {
      const line = document.createElement("tr")
      const head = Object.assign(element("th", title + " "), { scope: "row" })
      head.append(Object.assign(element("span", BETTER[better]), { className: "better" }))
      const cells = [element("td", "-"), element("td", "-")]
      this.cells.set(name, cells)
      line.append(head, ...cells)
      return line
    })
    this.find("tbody").replaceChildren(...lines)
    const meanings = rows.map(({ title, help }) => {
      const item = document.createElement("li")
      item.append(element("strong", title), `: ${help}`)
      return item
    })
    this.find(".meanings ul").replaceChildren(...meanings)
    this.things = things
    this.find(".scores-about").textContent =
      `Real: the scores of as many real ${things}, dashed in the charts. A generator can beat them by drawing only typical ${things}; recall and diversity then show how much variety is missing.`
  }

  load(url) {
    let image = this.images.get(url)
    if (!image) {
      image = new Image()
      this.images.set(url, image)
      image.onload = image.onerror = () => { if (this.shown?.url === url) this.showGrid() }
      image.src = url
    }
    return image
  }

  // Load all grids, those nearest to the slider first.
  preload() {
    const { epochs } = this.data
    const order = epochs.map((_, index) => index).sort((a, b) => Math.abs(a - this.index) - Math.abs(b - this.index))
    for (const index of order) this.load(epochs[index].url)
  }

  show() {
    if (!this.shown) return
    this.root.classList.toggle("peeking", this.peeked !== null && this.peeked !== this.index)
    const range = this.find(".position")
    range.value = this.index
    range.setAttribute("aria-valuetext", this.data.epochs[this.index].label)
    this.showGrid()
    this.showScores()
    this.charts?.mark(this.shown.epoch)
    this.own.select(this.shown.epoch)
  }

  showGrid() {
    const { label, alt, url } = this.shown
    const image = this.load(url)
    const failed = image.complete && !image.naturalWidth
    const canvas = this.find(".stage")
    this.root.classList.toggle("failed", failed)
    this.find(".caption").textContent = failed ? `${label} - this picture is damaged or cannot be loaded` : label
    canvas.setAttribute("aria-label", alt)
    if (failed || !image.complete) return
    const { naturalWidth: width, naturalHeight: height } = image
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height })
    canvas.dataset.isDrawn = ""
    canvas.getContext("2d").drawImage(image, 0, 0)
  }

  showScores() {
    const { rows, is_expected: isExpected } = this.data.scores
    if (!rows.length) return
    const { epoch, scores, real, count } = this.shown
    for (const [name, [value, expected]] of this.cells) {
      value.textContent = scores[name] ?? "-"
      expected.textContent = real[name] ?? "-"
    }
    this.find(".scores-title").textContent = `How good the ${this.things} are after epoch ${epoch}`
    const number = count.toLocaleString("en-US")
    this.find(".scores-count").textContent = count
      ? `Measured with ${number} generated ${this.things}.`
      : isExpected ? "The first scores come at the end of an epoch." : `Epoch ${epoch} was not scored.`
  }

  // Say in one line what the page shows, for those who do not see it.
  announcement() {
    const { label, scores } = this.data.epochs[this.index] ?? { label: "", scores: {} }
    const titles = Object.fromEntries(this.data.scores.rows.map(({ name, title }) => [name, title]))
    const told = ["label_accuracy", "fid"].filter((name) => scores[name] && titles[name])
    return [label, ...told.map((name) => `${titles[name]} ${scores[name]}`)].join(", ")
  }

  // --- The visitor's own picture

  // Write the values of the picture into its fields.
  showOwnFields(isNew) {
    const { classes, noun } = this.data
    const select = this.find(".own-digit")
    if (select.length !== classes.length) select.replaceChildren(...classes.map((name, label) => new Option(label, label)))
    this.find(".digit-field").hidden = !classes.length
    this.find(".digit-field").firstChild.textContent = `${noun === "class" ? "Class" : "Digit"} `
    this.root.classList.toggle("has-own", Boolean(this.place))
    if (!isNew) return
    const { plane, seed } = this.place ?? { plane: { digit: classes.length ? Math.min(7, classes.length - 1) : null }, seed: randomSeed() }
    if (classes.length) select.value = plane.digit
    this.find(".own-seed").value = seed
    if (!this.place) this.tellOwn(this.weightsNote)
  }

  chooseOwn() {
    const seed = readSeed(this.find(".own-seed").value)
    if (seed === null) return this.problem("A seed is a whole number from 0 to 4,294,967,295.")
    this.problem("")
    const digit = this.data.classes.length ? Number(this.find(".own-digit").value) : null
    const plane = { digit, corners: following(seed), x: 0, y: 0 }
    this.place = { plane, truncation: 1, asked: {}, seed, own: { mine: digit === null ? seed : `${digit}.${seed}` } }
    this.root.classList.add("has-own")
    this.drawOwn()
    this.commit()
  }

  drawOwn() {
    const { epochs, size, weights } = this.data
    this.own.draw(this.place, epochs, this.shown?.epoch ?? 0, size, weights)
  }

  showOwn(pictures, isKept) {
    const canvas = this.find(".own-canvas")
    const { plane, own } = this.place
    const name = plane.digit === null ? this.data.thing : this.data.classes[plane.digit]
    const words = own.link ? `${name}, the picture of your link` : `${name}, seed ${plane.corners[0]}`
    canvas.setAttribute("aria-label", `${words}, epoch ${this.shown.epoch}`)
    canvas.dataset.epoch = pictures ? this.shown.epoch : ""
    if (pictures) paint(canvas, pictures)
    else canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height)
    this.ownWords = isKept ? `${words}, as epoch ${this.shown.epoch} draws it` : `The generator of epoch ${this.shown.epoch} was not kept`
    if (!this.loadingText) this.find(".own-state").textContent = this.ownWords
  }

  tellOwn(text) {
    this.loadingText = text
    this.find(".own-state").textContent = text || this.ownWords || ""
  }

  problem(text) {
    const problem = this.find(".own .problem")
    problem.textContent = text
    problem.hidden = !text
  }
}

// Note that a training was played; return whether one was before.
function isPlayed() {
  const played = recall(PLAYED)
  remember(PLAYED, "1")
  return Boolean(played)
}

function element(name, text) {
  return Object.assign(document.createElement(name), { textContent: text })
}
