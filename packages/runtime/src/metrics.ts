import { Counter, collectDefaultMetrics, Gauge, Histogram, register } from 'prom-client'

/** Metrics in Prometheus' text form, one registry per process; names begin with `pennywire_`. */
collectDefaultMetrics()

export const counter = <Label extends string>(name: string, help: string, labelNames: Label[] = []) =>
  new Counter({ name: `pennywire_${name}`, help, labelNames })

export const gauge = <Label extends string>(name: string, help: string, labelNames: Label[] = []) =>
  new Gauge({ name: `pennywire_${name}`, help, labelNames })

/** A gauge whose source does not answer in time becomes NaN: a scrape must not hang during an outage. */
const MEASURE_WITHIN_MS = 1_000

const measured = async (measure: () => number | Promise<number>): Promise<number> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<number>(resolve => {
    timer = setTimeout(resolve, MEASURE_WITHIN_MS, Number.NaN)
  })
  try {
    return await Promise.race([measure(), late])
  } catch {
    return Number.NaN
  } finally {
    clearTimeout(timer)
  }
}

/** A gauge that is read at each scrape. */
export const measuredGauge = (name: string, help: string, measure: () => number | Promise<number>): void => {
  new Gauge({
    name: `pennywire_${name}`,
    help,
    async collect() {
      this.set(await measured(measure))
    },
  })
}

/** A gauge with labels that is read at each scrape; labels that are no longer measured disappear. */
export const collectedGauge = <Label extends string>(
  name: string,
  help: string,
  labelNames: Label[],
  measure: () => Array<{ labels: Record<Label, string | number>; value: number }>,
): void => {
  new Gauge({
    name: `pennywire_${name}`,
    help,
    labelNames,
    collect() {
      this.reset()
      for (const { labels, value } of measure()) this.set(labels, value)
    },
  })
}

/** A histogram of seconds, from half a millisecond to ten seconds. */
export const secondsHistogram = <Label extends string>(
  name: string,
  help: string,
  labelNames: Label[] = [],
) =>
  new Histogram({
    name: `pennywire_${name}`,
    help,
    labelNames,
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  })

export const metricsText = (): Promise<string> => register.metrics()
