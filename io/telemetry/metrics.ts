import { Counter, Gauge, Registry } from '@prometheus-io/client'

/** A number that goes both ways, e.g. peers. */
export interface GaugeMetric {
  set(value: number, labels?: Readonly<Record<string, string>>): void
}

/** A number that only grows. */
export interface CounterMetric {
  add(value?: number, labels?: Readonly<Record<string, string>>): void
}

/**
 * What one process counts, in Prometheus' text form. Label values are names of nodes, devices and outcomes: never keys.
 * `collect` functions run at each scrape, so that nothing has to be kept up to date for nobody.
 */
export class Metrics {
  readonly #registry = new Registry()
  readonly #collectors: (() => Promise<void> | void)[] = []

  gauge(name: string, help: string, labelNames: readonly string[] = []): GaugeMetric {
    const gauge = new Gauge({ name, help, labelNames: [...labelNames], registers: [this.#registry] })
    return { set: (value, labels) => (labels === undefined ? gauge.set(value) : gauge.set({ ...labels }, value)) }
  }

  counter(name: string, help: string, labelNames: readonly string[] = []): CounterMetric {
    const counter = new Counter({ name, help, labelNames: [...labelNames], registers: [this.#registry] })
    return {
      add: (value = 1, labels) => (labels === undefined ? counter.inc(value) : counter.inc({ ...labels }, value)),
    }
  }

  /** Runs before each scrape. */
  onScrape(collect: () => Promise<void> | void): void {
    this.#collectors.push(collect)
  }

  async text(): Promise<string> {
    for (const collect of this.#collectors) await collect()
    return await this.#registry.metrics()
  }

  get contentType(): string {
    return this.#registry.contentType
  }
}
