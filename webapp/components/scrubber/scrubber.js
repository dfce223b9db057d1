// A player for frames that the browser already has: dragging and playing never wait for the server.
// The server sets the first position for each version of the data. After that, only the visitor changes it.

const scrubbers = new WeakMap()

export default function (component) {
  const { data, parentElement, setStateValue } = component
  if (!scrubbers.has(parentElement)) scrubbers.set(parentElement, new Scrubber(parentElement))
  const scrubber = scrubbers.get(parentElement)
  scrubber.update(data, setStateValue)
  return () => {
    scrubber.pause()
    scrubbers.delete(parentElement)
  }
}

class Scrubber {
  constructor(parent) {
    const find = (name) => parent.querySelector("." + name)
    this.root = find("scrubber")
    this.stage = find("stage")
    this.range = find("position")
    this.caption = find("caption")
    this.rows = find("rows")
    this.playButton = find("play")
    this.index = 0
    this.version = null
    this.data = { frames: [] }
    this.images = new Map() // url -> Image

    find("previous").onclick = () => this.step(-1)
    find("next").onclick = () => this.step(1)
    this.playButton.onclick = () => (this.timer ? this.pauseAndCommit() : this.play())
    this.range.oninput = () => { this.pause(); this.show(Number(this.range.value)) }
    this.range.onchange = () => this.commit()
    this.root.onkeydown = (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
      if (!move || event.target === this.range) return // the slider handles arrow keys itself
      event.preventDefault()
      this.step(move)
    }
  }

  update(data, setStateValue) {
    const wasLast = this.index === this.data.frames.length - 1
    this.data = data
    this.setStateValue = setStateValue
    const last = data.frames.length - 1
    this.range.max = last
    this.range.setAttribute("aria-label", data.name)
    this.root.style.setProperty("--stage", data.stage + "px")
    this.root.classList.toggle("one", last < 1)
    this.rows.replaceChildren(...data.rows.map((text) => Object.assign(document.createElement("span"), { textContent: text })))
    this.root.classList.toggle("named", data.rows.some((text) => text.length > 3))
    if (data.version !== this.version) {
      this.version = data.version
      this.pause()
      this.index = data.index === null ? last : data.index
    } else if (wasLast && !this.timer) {
      this.index = last
    }
    this.show(Math.min(this.index, last))
    this.preload()
    this.labelPlay()
  }

  load(url) {
    let image = this.images.get(url)
    if (!image) {
      image = new Image()
      this.images.set(url, image)
      image.onload = image.onerror = () => this.loaded(url)
      image.src = url
    }
    return image
  }

  loaded(url) {
    if (this.data.frames[this.index]?.url === url) this.show(this.index)
  }

  // Load all frames, those nearest to the shown frame first.
  preload() {
    const { frames } = this.data
    const order = frames.map((_, index) => index).sort((a, b) => Math.abs(a - this.index) - Math.abs(b - this.index))
    for (const index of order) this.load(frames[index].url)
  }

  show(index) {
    this.index = index
    const frame = this.data.frames[index]
    this.range.value = index
    this.range.setAttribute("aria-valuetext", frame.label)
    this.caption.textContent = frame.label
    this.stage.setAttribute("aria-label", frame.alt)
    const image = this.load(frame.url)
    const failed = image.complete && !image.naturalWidth
    this.root.classList.toggle("failed", failed)
    if (failed) this.caption.textContent = frame.label + " - this picture is damaged or cannot be loaded"
    else if (image.complete) draw(this.stage, image)
  }

  step(move) {
    this.pause()
    this.show(Math.max(0, Math.min(this.data.frames.length - 1, this.index + move)))
    this.commit()
  }

  play() {
    const last = this.data.frames.length - 1
    if (this.index === last) this.show(0)
    this.timer = setInterval(() => this.advance(), this.data.interval)
    this.labelPlay()
  }

  advance() {
    const last = this.data.frames.length - 1
    if (last < 1) return this.pause()
    if (this.index < last) this.show(this.index + 1)
    else this.pauseAndCommit()
  }

  pause() {
    clearInterval(this.timer)
    this.timer = null
    this.labelPlay()
  }

  pauseAndCommit() {
    this.pause()
    this.commit()
  }

  labelPlay() {
    const playing = Boolean(this.timer)
    this.root.classList.toggle("playing", playing)
    this.playButton.setAttribute("aria-label", playing ? "Pause" : "Play")
    this.playButton.title = playing ? "Pause" : "Play"
  }

  // Report the position to the server at the end of an interaction; -1 means: follow the last frame.
  commit() {
    this.setStateValue("index", this.index === this.data.frames.length - 1 ? -1 : this.index)
  }
}

function draw(canvas, image) {
  const { naturalWidth: width, naturalHeight: height } = image
  if (canvas.width !== width) canvas.width = width
  if (canvas.height !== height) canvas.height = height
  canvas.getContext("2d").drawImage(image, 0, 0)
}
