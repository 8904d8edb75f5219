/** Devices and tables by the names that Cilium's users know, or that are ours alone. */

export const HOST_DEVICE = 'cilium_host'
export const HOST_PEER_DEVICE = 'cilium_net'
export const VXLAN_DEVICE = 'cilium_vxlan'
export const WIREGUARD_DEVICE = 'cilium_wg0'
export const IPSEC_DEVICE = 'pellicle_ipsec'
/** Pods' devices begin with this; kube-proxy's `detectLocalMode: InterfaceNamePrefix` is told the same. */
export const POD_DEVICE_PREFIX = 'lxc'

/** nftables, family inet. */
export const STEERING_TABLE = 'pellicle'
export const POD_TABLE = 'pellicle_pods'
