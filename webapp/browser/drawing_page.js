// What the pages Explore, Interpolate and Write have in common: the browser holds the state and draws it at once, and
// the server hears of it when the visitor lets go.

import { Drawer } from "./drawer.js"
import { Keys } from "./keys.js"
import { query } from "./values.js"

export const REPORT_AFTER = 400 // milliseconds after the last key, before the server hears of it
export const NEVER = Infinity // while a slider is dragged: its release reports

// A page has methods for what differs: start(data) takes the values of a new view, show() shows the controls,
// first(pictures) shows the pictures that came with the page, draw() draws, pinned() returns all values of the view, and
// keyRows() returns the keys (see keys.js).
export class DrawingPage {
  // `parent` holds the page's HTML, whose root has the class `name`; `base` is the URL of the app.
  constructor(parent, base, name) {
    this.base = base
    this.find = (selector) => parent.querySelector(selector)
    this.root = this.find(`.${name}`)
    this.version = null
    this.keys = new Keys(this.root, this.find(".keys-place"), () => this.keyRows())
  }

  // Show what the server sends, unless the visitor has gone on since: then only another generator counts.
  update(data, report) {
    this.report = report
    const isNew = data.version !== this.version
    const isOther = data.scope.g !== this.data?.scope.g // another checkpoint of the run
    this.data = data
    if (!isNew && !isOther) return
    this.drawer?.close()
    this.drawer = new Drawer(this.base, data)
    if (this.isAwake || this.root.matches(":hover, :focus-within")) this.wake()
    if (!isNew) return this.draw()
    this.version = data.version
    clearTimeout(this.timer)
    this.start(data)
    this.show()
    this.root.dataset.isReady = ""
    this.first(data.pictures)
  }

  // Load the generator, from the first sign on that the visitor wants to change something.
  wake() {
    this.isAwake = true
    this.drawer.wake((text) => {
      this.find(".state").textContent = text
      this.root.dataset.draws = this.drawer.isReady ? "browser" : "server"
    })
  }

  // Tell the server after `delay` milliseconds without a change.
  commit(delay = 0) {
    clearTimeout(this.timer)
    const send = () => this.report({ version: this.version, text: query(this.pinned()) })
    if (delay !== NEVER) this.timer = setTimeout(send, delay)
  }

  close() {
    clearTimeout(this.timer)
    this.keys.close()
    this.drawer?.close()
  }
}
