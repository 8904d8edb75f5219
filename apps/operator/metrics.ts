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
  readonly podCidrs = new Gauge({
    name: 'pellicle_operator_pod_cidrs',
    help: 'With ipam cluster-pool: pod CIDRs that are taken',
    labelNames: ['family'],
    registers: [this.registry],
  })
  readonly podCidrCapacity = new Gauge({
    name: 'pellicle_operator_pod_cidrs_capacity',
    help: 'With ipam cluster-pool: pod CIDRs that the pool has, taken ones too',
    labelNames: ['family'],
    registers: [this.registry],
  })
  readonly ipsecKeys = new Gauge({
    name: 'pellicle_operator_ipsec_keys',
    help: 'IPsec keys in use: 1, or 2 while they are rotated',
    registers: [this.registry],
  })
  readonly ipsecKeyId = new Gauge({
    name: 'pellicle_operator_ipsec_key_id',
    help: 'Id of the newest IPsec key, 0 for none',
    registers: [this.registry],
  })
  readonly ipsecWaiting = new Gauge({
    name: 'pellicle_operator_ipsec_rotation_waiting_nodes',
    help: 'Nodes without which the oldest IPsec key is not retired',
    registers: [this.registry],
  })
  readonly ipsecProblems = new Gauge({
    name: 'pellicle_operator_ipsec_key_problems',
    help: 'What is wrong with the Secret of IPsec keys now, by reason; the log and the Events say what to do',
    labelNames: ['reason'],
    registers: [this.registry],
  })
}
