// The page's side of the thread that draws: see worker.js, and Generator.plan for the jobs.

const ORDER = ["hero", "large", "frame", "strip"] // lanes that go first; all others follow

export class Artist {
  // `url` is that of the generator file. The thread starts at once. `ready` gives the generator's config, or fails with
  // an Error that says why.
  constructor(url) {
    this.waiting = new Map() // id -> { resolve, reject }
    this.next = 0
    this.end = null // a function that settles what is asked after the thread has ended
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" })
    this.worker.onmessage = ({ data }) => this.answer(data)
    this.worker.onerror = (event) => {
      const error = new Error(event.message || "the drawing thread cannot start")
      this.finish(({ reject }) => reject(error))
    }
    this.ready = this.ask({ url })
    this.ready.catch((error) => this.finish(({ reject }) => reject(error)))
  }

  // Draw a job; return { pixels, count, height, width, channels }, or null if a later job of the same lane replaced it.
  // Jobs may be given before the generator is loaded. Fails with an Error if the generator cannot draw the job.
  async draw(job, lane) {
    await this.ready
    const order = ORDER.includes(lane) ? ORDER.indexOf(lane) : ORDER.length
    return this.ask({ lane, order, job })
  }

  // End the thread. Jobs that are not drawn yet give null.
  close() {
    this.finish(({ resolve }) => resolve(null))
  }

  ask(message) {
    return new Promise((resolve, reject) => {
      if (this.end) return this.end({ resolve, reject })
      const id = this.next++
      this.waiting.set(id, { resolve, reject })
      this.worker.postMessage({ id, ...message })
    })
  }

  answer({ id, failed, found }) {
    const { resolve, reject } = this.waiting.get(id)
    this.waiting.delete(id)
    if (failed) reject(new Error(failed))
    else resolve(found)
  }

  finish(end) {
    if (this.end) return
    this.end = end
    this.worker.terminate()
    for (const one of this.waiting.values()) end(one)
    this.waiting.clear()
  }
}
