// A picture of the visitor's own, drawn by the generator of each epoch. The generators are loaded when it is first asked
// for; those that are too large for a browser draw on the server.

import { Drawer } from "./drawer.js"
import { query, share } from "./values.js"

const MAX_ARTISTS = 12 // generators that are kept ready at a time

export class OwnPicture {
  // `show(picture, words)` paints the pictures of an epoch, or none for null; `tell(text)` says how far the loading is.
  constructor(base, { show, tell }) {
    this.base = base
    this.show = show
    this.tell = tell
    this.drawers = new Map() // epoch -> Drawer, the one used last at the end
    this.pictures = new Map() // epoch -> pictures
    this.place = null
    this.epochs = []
    this.epoch = null
  }

  // Draw `place`, { plane, truncation, asked, seed }, for all `epochs`, and show that of `epoch`. `size` is that of a picture.
  async draw(place, epochs, epoch, size, total) {
    const text = JSON.stringify(place)
    const isOther = text !== this.text
    this.epochs = epochs.filter(({ scope }) => scope)
    this.epoch = epoch
    this.size = size
    if (isOther) {
      this.text = text
      this.place = place
      this.pictures.clear()
    }
    const mine = this.running = {}
    this.select(epoch)
    const missing = this.epochs.filter((each) => !this.pictures.has(each.epoch))
    missing.sort((a, b) => Math.abs(a.epoch - epoch) - Math.abs(b.epoch - epoch))
    for (const [done, each] of missing.entries()) {
      const loads = each.weights ? `Loading the generators${total ? ` (${total})` : ""}` : "The server draws"
      this.tell(`${loads}: ${this.epochs.length - missing.length + done} of ${this.epochs.length} epochs`)
      try {
        const pictures = await this.drawn(each)
        if (mine !== this.running) return
        this.pictures.set(each.epoch, pictures)
      } catch (error) {
        if (mine !== this.running) return
        this.failure = error.message
        this.pictures.set(each.epoch, null)
      }
      if (each.epoch === this.epoch) this.select(this.epoch)
    }
    this.tell(this.failure ? `Some epochs could not be drawn: ${this.failure}.` : "")
    this.failure = ""
  }

  // Show the picture of an epoch, if there is one.
  select(epoch) {
    this.epoch = epoch
    if (this.place) this.show(this.pictures.get(epoch) ?? null, this.epochs.some((each) => each.epoch === epoch))
  }

  async drawn({ epoch, scope, weights }) {
    const { plane, truncation, asked, seed } = this.place
    const drawer = this.drawer(epoch, weights)
    if (weights) {
      drawer.wake()
      await drawer.artist?.ready.catch(() => {}) // the server draws then
    }
    const { digit, corners, x, y } = plane
    const values = { ...scope, ...asked, digits: digit, count: 1, seed, truncation: share(truncation), digit }
    const text = query({ v: 1, kind: "explore", ...values, corners: corners.join("."), x: share(x), y: share(y) })
    return drawer.draw({ plane, truncation, asked }, text, "own", 1)
  }

  drawer(epoch, weights) {
    const drawer = this.drawers.get(epoch) ?? new Drawer(this.base, { size: this.size, weights })
    this.drawers.delete(epoch)
    this.drawers.set(epoch, drawer)
    for (const [oldest, old] of this.drawers) {
      if (this.drawers.size <= MAX_ARTISTS) break
      old.close()
      this.drawers.delete(oldest)
    }
    return drawer
  }

  close() {
    this.running = null
    for (const drawer of this.drawers.values()) drawer.close()
    this.drawers.clear()
  }
}
