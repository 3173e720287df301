// A command moves money only because a gateway signed it, not because it is in ledger.commands: each carries the
// gateway's MAC (HMAC-SHA256, RFC 2104), and the ledger sets aside records without one. Write access to the topic alone
// moves nothing.
import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto'
import { jsonFile } from '@pennywire/runtime/config.ts'
import { type MacKeys, macKeys } from '@pennywire/runtime/mac-keys.ts'
import type { Publisher } from './publisher.ts'
import type { IncomingRecord, RawRecord } from './record.ts'

/** The header that holds "KID.MAC", the MAC in base64url. */
export const COMMAND_MAC_HEADER = 'pw-mac'
/** Domain separation: keeps these MACs distinct from any other MAC that is computed with the same key. */
const PURPOSE = 'pennywire command 1'
/**
 * The headers that the MAC covers beside topic, key and value: those that readers of the topic rely on. The partition
 * is not covered, because the producer's partitioner chooses it: a copy in another partition has the same id, which is
 * decided once (X1).
 */
const COVERED_HEADERS = ['ce_id', 'ce_type', 'ce_source', 'ce_time', 'ce_subject'] as const

/** The content of COMMAND_MAC_FILE, of which the first key signs and all verify. */
export const commandMacKeys = macKeys
export type CommandMacKeys = MacKeys

/** Loads the key ring from a file in the format of COMMAND_MAC_FILE; throws if it is unusable. */
export const loadCommandMacKeys = (path: string): CommandMacKeys => jsonFile(commandMacKeys).parse(path)

/** The parts of a record that the MAC is computed over; headers in order, a name may occur more than once. */
type Covered = {
  topic: string
  key: string | Buffer | null
  value: Buffer | null
  headers: Array<[name: string, value: string | Buffer]>
}

/** Prefixes each part with its length, -1 if it is absent, so that no two records have the same bytes. */
const macOf = (key: KeyObject, record: Covered): Buffer => {
  // One latin1 string, in which each character is a byte: cheaper than a buffer a part, and hashed by one update.
  const prefixed = (part: string | Buffer | null): string => {
    if (part === null) return '\n-1:'
    const bytes = (typeof part === 'string' ? Buffer.from(part) : part).toString('latin1')
    return `\n${bytes.length}:${bytes}`
  }
  let covered = prefixed(PURPOSE) + prefixed(record.topic) + prefixed(record.key) + prefixed(record.value)
  for (const name of COVERED_HEADERS) {
    let [count, values] = [0, '']
    for (const [header, value] of record.headers) {
      if (header !== name) continue
      count++
      values += prefixed(value)
    }
    covered += `\n${name} ${count}${values}`
  }
  return createHmac('sha256', key).update(covered, 'latin1').digest()
}

/** Sets the gateway's MAC on a command and replaces an existing one. */
export type SignCommand = (record: RawRecord) => RawRecord
/** Why a record is not a gateway's command; undefined if it is one. */
export type VerifyCommand = (record: IncomingRecord) => string | undefined

const keyObjects = (keys: CommandMacKeys) => keys.map(({ kid, key }) => ({ kid, key: createSecretKey(key) }))

/** Signs with the first key of the ring. */
export const createCommandSigner = (keys: CommandMacKeys): SignCommand => {
  const [signing] = keyObjects(keys)
  return record => {
    const { [COMMAND_MAC_HEADER]: _, ...headers } = record.headers
    const mac = macOf(signing!.key, {
      ...record,
      headers: Object.entries(headers).flatMap(([name, values]) =>
        [values].flat().map((value): [string, string | Buffer] => [name, value]),
      ),
    })
    return {
      ...record,
      headers: { ...headers, [COMMAND_MAC_HEADER]: `${signing!.kid}.${mac.toString('base64url')}` },
    }
  }
}

/** Verifies the MAC with the key of the ring that it names. */
export const createCommandVerifier = (keys: CommandMacKeys): VerifyCommand => {
  const byKid = new Map(keyObjects(keys).map(({ kid, key }) => [kid, key]))
  return record => {
    const [given, ...more] = record.headers.flatMap(([name, value]) =>
      name === COMMAND_MAC_HEADER ? [value] : [],
    )
    if (!given) return 'it carries no MAC of a gateway'
    if (more.length > 0) return 'it carries more than one MAC'
    const [kid = '', mac = ''] = given.toString('latin1').split('.')
    const key = byKid.get(kid)
    // The header is a stranger's text until it is verified: do not repeat its kid.
    if (!key) return 'its MAC is by a key that this ledger does not have'
    const expected = macOf(key, record)
    const bytes = Buffer.from(mac, 'base64url')
    return bytes.length === expected.length && timingSafeEqual(bytes, expected)
      ? undefined
      : 'its MAC is not of this record'
  }
}

/** The one way to publish commands: a publisher whose records of ledger.commands carry the gateway's MAC. */
export const signCommands = <Inner extends Pick<Publisher, 'publish' | 'publishAll'>>(
  publisher: Inner,
  sign: SignCommand,
): Inner => {
  const signed = (record: RawRecord) => (record.topic === 'ledger.commands' ? sign(record) : record)
  return {
    ...publisher,
    publish: record => publisher.publish(signed(record)),
    publishAll: records => publisher.publishAll(records.map(signed)),
  }
}
