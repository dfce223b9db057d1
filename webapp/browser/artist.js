// The page's side of the thread that draws: see worker.js, and Generator.plan for the jobs.

const ORDER = ["hero", "large", "frame", "strip"] // lanes that go first; all others follow

export class Artist {
  // `url` is that of the generator file. The thread starts at once; `ready` fails with an Error that says why.
  constructor(url) {
    this.waiting = new Map() // id -> { resolve, reject }
    this.next = 0
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" })
    this.ready = new Promise((resolve, reject) => {
      this.worker.onerror = (event) => reject(new Error(event.message || "the drawing thread cannot start"))
      this.worker.onmessage = ({ data }) => {
        if (data.ready) resolve(data.config)
        else if (data.failed && data.id === undefined) reject(new Error(data.failed))
        else this.answer(data)
      }
    })
    this.worker.postMessage({ url })
  }

  // Draw a job; return { pixels, count, height, width, channels }, or null if a later job of the same lane replaced it.
  draw(job, lane) {
    const id = this.next++
    const order = ORDER.includes(lane) ? ORDER.indexOf(lane) : ORDER.length
    this.worker.postMessage({ id, lane, order, job })
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }))
  }

  answer({ id, replaced, failed, ...pictures }) {
    const { resolve, reject } = this.waiting.get(id)
    this.waiting.delete(id)
    if (failed) reject(new Error(failed))
    else resolve(replaced ? null : pictures)
  }

  close() {
    this.worker.terminate()
  }
}
