import type { Backup, LedgerRows, Tables } from './ledger-tables.ts'

/** The tables that events tell. `partitions` and `published` have rules of their own. */
const TOLD = [
  'wallets',
  'transfers',
  'entries',
  'commands',
  'holds',
  'reversals',
  'limits',
  'journal',
] as const

const textOf = (row: object): string =>
  JSON.stringify(
    Object.fromEntries(Object.entries(row).sort(([one], [other]) => (one < other ? -1 : 1))),
    (_name, value) => (typeof value === 'bigint' ? `${value}n` : value),
  )

/** No event tells of a system wallet without entries, or when one was made. */
const comparable = (table: (typeof TOLD)[number], row: object): object | undefined => {
  if (table !== 'wallets') return row
  const wallet = row as LedgerRows['wallets']
  if (wallet.system === null) return wallet
  return wallet.sequence === 0 ? undefined : { ...wallet, openedAt: null }
}

/**
 * The first row that differs between books that were caught up by their events and the newest books. Positions may be
 * lower: the commands between them have no events.
 */
export const findOtherBooks = (books: Tables, newest: Backup['tables']): string | undefined => {
  for (const table of TOLD) {
    for (const key of new Set([...books[table].keys(), ...newest[table].keys()])) {
      const [own, wanted] = [books[table].get(key), newest[table].get(key)].map(
        row => row && comparable(table, row),
      )
      const [ownText, wantedText] = [own && textOf(own), wanted && textOf(wanted)]
      if (ownText !== wantedText) return `${table} ${key} is ${ownText}, not ${wantedText}`
    }
  }
  for (const { partition, nextOffset, nextSeq } of newest.partitions.values()) {
    const own = books.partitions.get(String(partition))
    if (own?.nextSeq !== nextSeq || own.nextOffset > nextOffset)
      return `partition ${partition} goes on at ${own?.nextOffset} with seq ${own?.nextSeq}, not ${nextOffset} with ${nextSeq}`
  }
  return undefined
}
