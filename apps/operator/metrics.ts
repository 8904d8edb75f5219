import { Counter, Gauge, Registry } from '@prometheus-io/client'

/** What Prometheus can read from the operator. Only the leader's figures say something; `leader` tells which that is. */
export class OperatorMetrics {
  readonly registry = new Registry()
  readonly leader = new Gauge({
    name: 'pellicle_operator_leader',
    help: '1 while this operator leads',
    registers: [this.registry],
  })
  readonly nodes = new Gauge({
    name: 'pellicle_operator_nodes',
    help: 'Nodes of the cluster',
    registers: [this.registry],
  })
  readonly troubles = new Gauge({
    name: 'pellicle_operator_troubles',
    help: 'What is wrong with the cluster now, by reason; the log and the Events say what to do',
    labelNames: ['reason'],
    registers: [this.registry],
  })
  readonly deleted = new Counter({
    name: 'pellicle_operator_deleted_ciliumnodes_total',
    help: 'CiliumNodes deleted because their Node was gone',
    registers: [this.registry],
  })
  readonly stale = new Gauge({
    name: 'pellicle_operator_stale_seconds',
    help: 'Since when the API server was not heard; 0 while it is',
    registers: [this.registry],
  })
}
