import { Reader } from '#core/bytes/reader.ts'
import type { Fault } from '#core/fault/fault.ts'
import type { Result } from '#core/fault/result.ts'
import { readAttributes, readText } from './attribute.ts'
import { guarded, type NetlinkMessage } from './message.ts'

/** include/uapi/linux/netfilter/nfnetlink.h and nf_tables.h: only what tells that a table changed. */
const NFNL_SUBSYS_NFTABLES = 10
const NFT_MSG_NEWGEN = 15
/** struct nfgenmsg */
const HEADER = 4
/** The table's name, in messages about tables, chains, rules, sets, elements and objects alike (NFTA_*_TABLE). */
const NFTA_TABLE = 1

/** Multicast group NFNLGRP_NFTABLES (7) as a bit of sockaddr_nl.nl_groups. */
export const NFTABLES_GROUP = 1 << 6

/** Name of the table that a multicast message is about; undefined when it is about none. */
export function changedTable(message: NetlinkMessage): Result<string | undefined, Fault> {
  return guarded(() => {
    if (message.type >> 8 !== NFNL_SUBSYS_NFTABLES || (message.type & 0xff) === NFT_MSG_NEWGEN) return undefined
    const reader = new Reader(message.body)
    reader.skip(HEADER)
    const table = readAttributes(reader).find((attribute) => attribute.type === NFTA_TABLE)
    return table === undefined ? undefined : readText(table)
  })
}
