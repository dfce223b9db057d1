// Charts of Plotly with one position: a marker at an epoch on each, a look at the epoch under the pointer, and a click
// that goes there. The figures come from webapp/charts.py.

const CONFIG = { displaylogo: false, modeBarButtons: [["resetScale2d"]], responsive: false }

let loading = null

// Return Plotly, loaded once for all charts of the page.
function plotly(url) {
  loading ??= new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), { src: url })
    script.onload = () => resolve(window.Plotly)
    script.onerror = () => {
      loading = null
      reject(new Error("The charts cannot be loaded. Reload the page to try again."))
    }
    document.head.append(script)
  })
  return loading
}

export class Charts {
  // `url` is that of plotly.js. `visitor` has three functions: peek(epoch) while the pointer is at an epoch, leave() when
  // it has left the chart, and go(epoch) for a click.
  constructor(element, url, visitor) {
    this.element = element
    element.classList.add("df-charts")
    this.url = url
    this.visitor = visitor
    this.charts = new Map() // name -> Chart
    this.epoch = null
    this.sizes = new ResizeObserver(() => this.resize())
    this.sizes.observe(element)
  }

  // Draw charts, { name, title, words, alt, figure }, in this order. Zooms stay. Fails with an Error if Plotly is missing.
  async update(charts) {
    const mine = this.updating = {}
    for (const name of [...this.charts.keys()]) {
      if (!charts.some((chart) => chart.name === name)) this.remove(name)
    }
    if (!charts.length) return
    const Plotly = await plotly(this.url)
    if (mine !== this.updating) return
    this.plotly = Plotly
    for (const each of charts) {
      const chart = this.charts.get(each.name) ?? new Chart(each, this.visitor)
      this.charts.set(each.name, chart)
      if (!chart.element.isConnected) this.element.append(chart.element)
      await chart.draw(Plotly, each, this.epoch)
      if (mine !== this.updating) return
    }
  }

  // Move the markers. Nothing is measured and no chart is drawn, so that they follow a drag.
  mark(epoch) {
    this.epoch = epoch
    for (const chart of this.charts.values()) chart.mark(epoch)
  }

  resize() {
    cancelAnimationFrame(this.resizing)
    this.resizing = requestAnimationFrame(() => {
      for (const { plot } of this.charts.values()) {
        if (plot._fullLayout && plot.offsetParent && plot.clientWidth !== plot._fullLayout.width) this.plotly.Plots.resize(plot)
      }
    })
  }

  remove(name) {
    const { plot, element } = this.charts.get(name)
    this.plotly.purge(plot)
    element.remove()
    this.charts.delete(name)
  }

  close() {
    this.updating = null
    this.sizes.disconnect()
    for (const name of [...this.charts.keys()]) this.remove(name)
  }
}

class Chart {
  constructor({ title }, visitor) {
    this.visitor = visitor
    this.element = Object.assign(document.createElement("section"), { className: "chart" })
    const heading = Object.assign(document.createElement("h3"), { textContent: title })
    this.words = document.createElement("p")
    const frame = Object.assign(document.createElement("div"), { className: "plot" })
    this.plot = document.createElement("div")
    this.plot.setAttribute("role", "group") // and no image: it has a button
    this.marker = Object.assign(document.createElement("div"), { className: "marker", hidden: true })
    frame.append(this.plot, this.marker)
    this.element.append(heading, this.words, frame)
    this.drawn = ""
  }

  async draw(Plotly, { words, alt, figure }, epoch) {
    const text = JSON.stringify(figure)
    if (text === this.drawn) return
    const isNew = !this.drawn
    this.drawn = text
    this.words.textContent = words
    this.plot.setAttribute("aria-label", alt)
    await Plotly.react(this.plot, figure.data, figure.layout, CONFIG)
    if (isNew) this.listen()
    this.traces = null
    this.mark(epoch)
  }

  listen() {
    const at = ({ points }) => points[0].x
    this.plot.on("plotly_hover", (event) => this.visitor.peek(at(event)))
    this.plot.on("plotly_unhover", () => this.visitor.leave())
    this.plot.on("plotly_click", (event) => this.visitor.go(at(event)))
    this.plot.on("plotly_afterplot", () => this.mark(this.epoch))
  }

  // Put the marker at an epoch, and a dot onto each curve that has a value there.
  mark(epoch) {
    this.epoch = epoch
    const layout = this.plot._fullLayout
    if (epoch === null || !layout?.xaxis) return
    const { xaxis, yaxis } = layout
    const x = xaxis.d2p(epoch)
    this.marker.hidden = !(x >= 0 && x <= xaxis._length)
    if (this.marker.hidden) return
    const { style } = this.marker
    style.top = `${yaxis._offset}px`
    style.height = `${yaxis._length}px`
    style.transform = `translateX(${xaxis._offset + x - 1}px)`
    this.traces ??= this.plot._fullData.filter((trace) => trace.hoverinfo !== "skip" && trace.yaxis === "y")
    while (this.marker.children.length < this.traces.length) this.marker.append(document.createElement("i"))
    while (this.marker.children.length > this.traces.length) this.marker.lastChild.remove()
    this.traces.forEach((trace, k) => {
      const y = yaxis.d2p(valueAt(trace, epoch))
      const dot = this.marker.children[k]
      dot.hidden = !(y >= 0 && y <= yaxis._length)
      if (dot.hidden) return
      dot.style.background = trace.line.color
      dot.style.top = `${y}px`
    })
  }
}

// Return the value of a trace at the place that is closest to x, NaN if that is more than half an epoch away.
function valueAt({ x: places, y: values }, x) {
  let best = -1
  let low = 0
  let high = places.length - 1
  while (low <= high) { // places ascend
    const middle = (low + high) >> 1
    if (best < 0 || Math.abs(places[middle] - x) < Math.abs(places[best] - x)) best = middle
    if (places[middle] < x) low = middle + 1
    else high = middle - 1
  }
  return best >= 0 && Math.abs(places[best] - x) <= 0.5 ? values[best] : NaN
}
