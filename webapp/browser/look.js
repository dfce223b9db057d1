// A closer look at one picture: how the digit reader and the discriminator judge it, what it resembles, and where one
// can go from it. A picture is that of a digit and a seed, or a point of the plane.

import { paint } from "./drawer.js"
import { MAX_SEED, following, query, share } from "./values.js"

const NEIGHBOURS = 8
const STEP = 0.3 // of the way to the seed of a neighbour
const PLANE_STEP = 0.15

export class Look {
  constructor(dialog, page) {
    this.dialog = dialog
    this.page = page
    this.find = (name) => dialog.querySelector(name)
    this.find(".close").onclick = () => dialog.close()
    dialog.onclick = (event) => { if (event.target === dialog) dialog.close() } // on the backdrop
    this.find(".to-pad").onclick = () => { this.walk(this.point); dialog.close() }
    this.find(".own-link").onclick = () => this.copyLink()
  }

  // Open the picture of a digit and a seed, { digit, seed }, or the hero: { digit, corners, x, y }.
  open(picture) {
    this.picture = picture
    this.point = picture.corners ? picture : { digit: picture.digit, corners: following(picture.seed), x: 0, y: 0 }
    this.text = this.linkQuery()
    const { page } = this
    const words = picture.corners ? page.words() : `${page.name(picture.digit)}, seed ${picture.seed}`
    this.find("h2").textContent = words
    this.find(".large").setAttribute("aria-label", words)
    this.find(".own-address").hidden = true
    this.find(".own-link").textContent = "Link to this picture"
    const morph = this.find(".morph")
    morph.hidden = Boolean(picture.corners)
    if (!picture.corners) morph.href = new URL("interpolate?" + query(this.morph(picture)), page.base).href
    this.drawPoint(this.point, this.find(".large"), "large")
    this.showNeighbours()
    this.judge()
    if (!this.dialog.open) this.dialog.showModal()
  }

  morph({ digit, seed }) {
    const to = digit === null ? null : (digit + 5) % this.page.data.classes.length
    return { ...this.page.scope, from_digit: digit, from_seed: seed, to_digit: to, to_seed: (seed + 1) % (MAX_SEED + 1) }
  }

  // Return the query of the picture's permalink: a grid of one picture, or the hero with one picture beside it.
  linkQuery() {
    const { digit, seed, corners, x, y } = this.picture
    const { scope, truncation } = { scope: this.page.scope, truncation: share(this.page.state.truncation) }
    const one = { ...scope, digits: digit, count: 1, seed: seed ?? corners[0], truncation }
    if (!corners) return "v=1&kind=generate&" + query(one)
    return "v=1&kind=explore&" + query({ ...one, digit, corners: corners.join("."), x: share(x), y: share(y) })
  }

  drawPoint(point, canvas, lane) {
    const { truncation } = this.page.state
    const job = { plane: point, truncation, asked: this.page.asked }
    const { digit, corners, x, y } = point
    const values = { ...this.page.scope, digits: digit, count: 1, seed: corners[0], truncation: share(truncation), digit, corners: corners.join("."), x: share(x), y: share(y) }
    return this.page.painted(job, "kind=explore&" + query(values), lane, 1, (pictures) => paint(canvas, pictures))
  }

  // --- Judgement

  async judge() {
    const text = this.text
    for (const name of [".probabilities", ".nearest"]) this.find(name).replaceChildren()
    this.find(".verdict").textContent = "Looking ..."
    this.find(".nearest-help").textContent = ""
    try {
      const response = await fetch(new URL("api/v1/look?" + text, this.page.base))
      if (!response.ok) throw new Error(response.status === 429 || response.status === 503 ? "the server is busy; try again in a moment" : `the server answers ${response.status}`)
      const judged = await response.json()
      if (text === this.text) this.showJudgement(judged)
    } catch (error) {
      if (text === this.text) this.find(".verdict").textContent = `This picture could not be judged: ${error.message}.`
    }
  }

  showJudgement({ probabilities, reader, verdict, nearest, nearest_help }) {
    const bars = probabilities.map((probability, digit) => {
      const row = document.createElement("div")
      row.className = "bar"
      const percent = probability >= 0.9995 ? "100 %" : `${(100 * probability).toFixed(1)} %`
      row.innerHTML = '<span class="digit"></span><span class="track"><span class="fill"></span></span><span class="percent"></span>'
      row.querySelector(".digit").textContent = digit
      row.querySelector(".fill").style.width = `${100 * probability}%`
      row.querySelector(".percent").textContent = percent
      return row
    })
    const list = this.find(".probabilities")
    list.replaceChildren(...bars)
    if (!bars.length) list.append(Object.assign(document.createElement("p"), { className: "help", textContent: reader }))
    this.find(".verdict").textContent = verdict
    this.find(".nearest-help").textContent = nearest_help
    this.find(".nearest").replaceChildren(...nearest.map(({ png, digit, index, distance }) => {
      const figure = document.createElement("figure")
      const image = Object.assign(document.createElement("img"), { src: png, alt: `Training image ${index}, a ${digit}` })
      const caption = Object.assign(document.createElement("figcaption"), { textContent: distance.toFixed(2) })
      figure.append(image, caption)
      return figure
    }))
  }

  // --- Neighbours

  showNeighbours() {
    const list = this.find(".neighbours")
    list.replaceChildren(...this.neighbours().map((point, k) => {
      const button = Object.assign(document.createElement("button"), { type: "button", className: "cell" })
      const canvas = Object.assign(document.createElement("canvas"), { width: 28, height: 28 })
      button.append(canvas)
      button.setAttribute("aria-label", `Neighbour ${k + 1}`)
      button.onclick = () => { this.walk(point); this.open(point) }
      this.drawPoint(point, canvas, `neighbour ${k}`)
      return button
    }))
  }

  // Return eight points around the picture. A seed is a corner of the plane, so its neighbours lie on the ways to eight
  // other seeds; those of a point within the plane lie around it.
  neighbours() {
    const { digit, corners, x, y } = this.point
    if (!this.picture.corners) {
      return Array.from({ length: NEIGHBOURS }, (_, k) => {
        const [b, c, d] = following(corners[0] + 101 * (k + 1))
        return { digit, corners: [corners[0], b, c, d], x: STEP, y: 0 }
      })
    }
    const inside = (value) => Math.min(Math.max(value, PLANE_STEP), 1 - PLANE_STEP)
    const around = [-1, 0, 1].flatMap((dy) => [-1, 0, 1].map((dx) => [dx, dy])).filter(([dx, dy]) => dx || dy)
    const round = (value) => Math.round(value * 1000) / 1000
    return around.map(([dx, dy]) => ({ digit, corners, x: round(inside(x) + dx * PLANE_STEP), y: round(inside(y) + dy * PLANE_STEP) }))
  }

  walk({ digit, corners, x, y }) {
    this.page.change({ digit, corners, x, y })
  }

  // --- Its link

  async copyLink() {
    const button = this.find(".own-link")
    const address = this.find(".own-address")
    try {
      const response = await fetch(new URL("s/link?" + this.text, this.page.base))
      if (!response.ok) throw new Error(`the server answers ${response.status}`)
      const { url } = await response.json()
      address.value = url
      try {
        await navigator.clipboard.writeText(url)
        button.textContent = "Link copied"
      } catch { // not permitted, or neither https nor localhost
        address.hidden = false
        address.select()
      }
    } catch (error) {
      button.textContent = `No link: ${error.message}`
    }
  }
}
