// Pictures for a page: drawn here by the generator, or by the server until the generator is loaded and for generators
// that are too large for a browser.

import { Artist } from "./artist.js"

export class Drawer {
  // `base` is the URL of the app, `data` that of webapp.drawing.scene_data.
  constructor(base, data) {
    this.base = base
    this.size = data.size
    this.weights = data.weights
    this.artist = null
    this.isReady = false
    this.lanes = new Map() // lane -> { running, next }
  }

  // Load the generator, at the first sign that the visitor wants to change something: the page is there without it.
  wake(onState = () => {}) {
    if (this.artist || !this.weights) return
    this.artist = new Artist(new URL(this.weights, this.base).href)
    onState("Loading the generator ...")
    this.artist.ready.then(
      () => { this.isReady = true; onState("") },
      (error) => {
        this.artist = null
        this.weights = ""
        onState(`The server draws, because this browser cannot: ${error.message}`)
      },
    )
  }

  // Return the pictures of a job, { pixels, count, height, width, channels }, or null if a later call of the same lane
  // replaced it. `query` is the same job for the server, which may answer with more pictures than `count`.
  async draw(job, query, lane, count) {
    const state = this.lanes.get(lane) ?? { running: null, next: null }
    this.lanes.set(lane, state)
    const mine = { query }
    state.next = mine // an answer of the server to an earlier call is not shown any more
    if (this.isReady) return this.artist.draw(job, lane)
    while (state.running) await state.running.catch(() => {})
    if (state.next !== mine) return null
    state.running = this.fetched(query, count)
    try {
      const pictures = await state.running
      return state.next === mine ? pictures : null
    } finally {
      state.running = null
    }
  }

  async fetched(query, count) {
    const response = await fetch(new URL("s/frames.bin?" + query, this.base))
    if (!response.ok) throw new Error(`the server cannot draw this picture now (${response.status})`)
    return this.shaped(new Uint8Array(await response.arrayBuffer()), count)
  }

  // Return the first `count` pictures that came with the page: pixels in order, deflated, in base64. They come as numbers
  // and not as an image, because browsers may add noise to pixels that a script reads back from an image.
  async unpacked(text, count) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))
    return this.shaped(new Uint8Array(await new Response(stream).arrayBuffer()), count)
  }

  shaped(pixels, count) {
    const [height, width, channels] = this.size
    return { pixels: pixels.subarray(0, count * height * width * channels), count, height, width, channels }
  }

  close() {
    this.artist?.close?.()
  }
}

// Paint picture `index` onto a canvas of the same size in pixels.
export function paint(canvas, { pixels, height, width, channels }, index = 0) {
  if (canvas.width !== width) canvas.width = width
  if (canvas.height !== height) canvas.height = height
  const context = canvas.getContext("2d")
  const image = context.createImageData(width, height)
  const start = index * height * width * channels
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[start + i * channels + (channels === 3 ? c : 0)]
    image.data[4 * i + 3] = 255
  }
  context.putImageData(image, 0, 0)
}
