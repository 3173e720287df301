// Lists a consumer's dead letters, and redrives them once the cause is fixed:
//   npm run dead-letters -- list ledger
//   npm run dead-letters -- show ledger 0/12
//   npm run dead-letters -- redrive ledger 0/12       (or --all: those not sent again yet)
//   npm run dead-letters -- redrive ledger 0/12 --sign
// A command is sent back to the byte, with its MAC. A command whose MAC the ledger would refuse is not sent: signing it
// would authorise a record that anybody may have written, so --sign takes only named ones, after a person has checked
// them. Redriving is safe at any time: a record's effect is applied once, by its id.
import { beginCommand, EXIT, endCommand } from '@pennywire/runtime/command.ts'
import { jsonFile, kafkaSettings, loadConfig, registrySettings } from '@pennywire/runtime/config.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { createKafkaClient, kafkaConnectionOf } from './client.ts'
import { type Codec, connectRegistry, createCodec, registryAccessOf, UndecodableRecord } from './codec.ts'
import { commandMacKeys, createCommandSigner, createCommandVerifier } from './command-mac.ts'
import {
  DEAD_LETTER_CONSUMERS,
  type DeadLetter,
  type DeadLetterConsumer,
  deadLetterTopicOf,
  originalOf,
  readDeadLetters,
  redriveMarkOf,
} from './dead-letters.ts'
import { createPublisher } from './publisher.ts'
import { readTopic } from './read-topic.ts'
import type { IncomingRecord, RawRecord } from './record.ts'

const { values: flags, positionals } = beginCommand(
  `usage: npm run dead-letters -- list CONSUMER [--json]
       npm run dead-letters -- show CONSUMER PARTITION/OFFSET
       npm run dead-letters -- redrive CONSUMER PARTITION/OFFSET ... [--sign] | --all [--force]

Lists a consumer's dead letters, shows one, or sends them back to their topic once the cause is mended.
CONSUMER is ${DEAD_LETTER_CONSUMERS.join(' or ')}; PARTITION/OFFSET is what list shows first.

  --all    Those that were not sent again yet.
  --force  Also what still cannot be read, or what the ledger would refuse.
  --sign   Signs named commands as the gateway's, after a person has checked them.
  --json   Writes one JSON document to stdout.
  --help   Writes this, and sends nothing.

Settings: KAFKA_BROKERS (and KAFKA_TLS, KAFKA_SASL_…), REGISTRY_URL, COMMAND_MAC_FILE.
Exit codes: 0 done, 1 there is no such dead letter, or not all were sent, 2 wrong options or settings, 3 it could not be done.
Example: npm run dead-letters -- list ledger`,
  {
    allowPositionals: true,
    options: {
      all: { type: 'boolean', default: false },
      force: { type: 'boolean', default: false },
      sign: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    },
  },
  ({ values: { all, force, sign, json }, positionals: [action, name, ...places] }) => {
    if (!DEAD_LETTER_CONSUMERS.some(known => known === name))
      throw new Error(`CONSUMER must be ${DEAD_LETTER_CONSUMERS.join(' or ')}`)
    const wrong = places.find(place => !/^\d+\/\d+$/.test(place))
    if (wrong !== undefined) throw new Error(`${wrong} is no PARTITION/OFFSET`)
    if ((all || force || sign) && action !== 'redrive')
      throw new Error('--all, --force and --sign are for redrive')
    if (json && action !== 'list') throw new Error('--json is for list')
    if (all && sign) throw new Error('--sign takes only named dead letters')
    const fits =
      (action === 'list' && places.length === 0) ||
      (action === 'show' && places.length === 1) ||
      (action === 'redrive' && places.length > 0 !== all)
    if (!fits) throw new Error('list takes no place, show one, redrive some or --all')
  },
)
const [action, name, ...places] = positionals
const consumer = name as DeadLetterConsumer

const config = loadConfig(
  {
    ...kafkaSettings,
    ...registrySettings,
    /** The gateway's keys: they verify or sign the commands that are redriven. */
    COMMAND_MAC_FILE: jsonFile(commandMacKeys).optional(),
  },
  process.env,
)
const logger = createLogger('dead-letters', { level: 'error', instance: 'dead-letters' })
const client = createKafkaClient({ connection: kafkaConnectionOf(config), clientId: 'dead-letters', logger })

const readAll = async (): Promise<DeadLetter[]> => {
  const records: IncomingRecord[] = []
  await readTopic({
    client,
    logger,
    topic: deadLetterTopicOf(consumer),
    handle: batch => void records.push(...batch),
  })
  return readDeadLetters(records)
}

const originOf = ({ source }: DeadLetter) => `${source.topic}/${source.partition}/${source.offset}`
const stateOf = ({ redriven }: DeadLetter) =>
  redriven.length === 0
    ? 'waiting'
    : `redriven ${redriven.at(-1)!.toISOString()}${redriven.length > 1 ? ` (${redriven.length} times)` : ''}`
const isText = (bytes: Buffer) => Buffer.from(bytes.toString('utf8')).equals(bytes)
const isPrintable = (text: string) => !/\p{Cc}/u.test(text)
/** Bytes for a person: as text if they are printable, else as hex. No control characters reach the terminal. */
const shown = (bytes: Buffer | null): string => {
  if (bytes === null) return 'null'
  const text = bytes.toString('utf8')
  return isText(bytes) && isPrintable(text) ? text : `0x${bytes.toString('hex')}`
}

const list = (letters: DeadLetter[]) => {
  if (flags.json) {
    const entries = letters.map(({ place, record, reason, source, redriven }) => ({
      ...{ place, reason, source, redriven, at: new Date(record.timestamp), key: shown(record.key) },
    }))
    console.log(JSON.stringify(entries, null, 2))
    return
  }
  for (const letter of letters) {
    const when = new Date(letter.record.timestamp).toISOString()
    console.log(`${letter.place}  ${when}  ${originOf(letter)}  ${stateOf(letter)}`)
    console.log(`    key ${shown(letter.record.key)}  ${shown(Buffer.from(letter.reason))}`)
  }
  const waiting = letters.filter(({ redriven }) => redriven.length === 0).length
  console.log(`${letters.length} dead letters, ${waiting} of them waiting`)
}

const decoded = async (codec: Codec, { value }: IncomingRecord): Promise<string> => {
  const { type, value: content } = await codec.decode(value)
  const text = JSON.stringify(
    content,
    (_name, member: unknown) => {
      if (typeof member === 'bigint') return member.toString()
      const bytes = member as { type?: string; data?: number[] } | null
      return bytes?.type === 'Buffer' ? Buffer.from(bytes.data!).toString('hex') : member
    },
    2,
  )
  return `${type} ${text}`
}

const show = async (letter: DeadLetter) => {
  const { record, place, reason } = letter
  console.log(`dead letter  ${place} of ${record.topic}, ${new Date(record.timestamp).toISOString()}`)
  console.log(`state        ${stateOf(letter)}`)
  console.log(`from         ${originOf(letter)}`)
  console.log(`reason       ${shown(Buffer.from(reason))}`)
  console.log(`key          ${shown(record.key)}`)
  for (const [header, value] of record.headers) console.log(`header       ${header}: ${shown(value)}`)
  console.log(`value        ${record.value === null ? 'null' : `0x${record.value.toString('hex')}`}`)
  try {
    console.log(
      `decoded      ${await decoded(await createCodec(connectRegistry(config.REGISTRY_URL, registryAccessOf(config))), record)}`,
    )
  } catch (error) {
    console.log(`decoded      not now: ${(error as Error).message}`)
  }
}

/** The record to send back, or why the ledger would only set it aside again. */
const backInTopic = (): ((letter: DeadLetter) => RawRecord | string) => {
  const keys = config.COMMAND_MAC_FILE
  if (!keys) {
    if (flags.sign) throw new Error('--sign needs COMMAND_MAC_FILE, the keys of the gateway')
    return originalOf
  }
  const [sign, verify] = [createCommandSigner(keys), createCommandVerifier(keys)]
  return letter => {
    const original = originalOf(letter)
    if (original.topic !== 'ledger.commands') return original
    if (flags.sign) return sign(original)
    const refusal = verify({ ...letter.record, topic: original.topic })
    if (refusal === undefined || flags.force) return original
    return `${refusal}; anybody who may write to the topic may have made it. --sign sends it as a command of the gateway.`
  }
}

/**
 * Sends each record, then its redrive mark. Skips records that still cannot be decoded: they would be set aside again,
 * and a row of them stops their partition. A crash in between loses a mark, so at worst one record is sent twice.
 */
const redrive = async (letters: DeadLetter[]): Promise<boolean> => {
  const codec = flags.force
    ? null
    : await createCodec(connectRegistry(config.REGISTRY_URL, registryAccessOf(config)))
  const backIn = backInTopic()
  const publisher = await createPublisher(client)
  let complete = true
  try {
    for (const letter of letters) {
      try {
        await codec?.decodeRecord(letter.record)
      } catch (error) {
        if (!(error instanceof UndecodableRecord)) throw error
        complete = false
        console.log(
          `${letter.place}  not sent: it still cannot be read (${error.message}). --force sends it all the same.`,
        )
        continue
      }
      const sent = backIn(letter)
      if (typeof sent === 'string') {
        complete = false
        console.log(`${letter.place}  not sent: ${sent}`)
        continue
      }
      await publisher.publish(sent)
      await publisher.publish(redriveMarkOf(letter))
      const again =
        letter.redriven.length > 0
          ? `; it was ${stateOf(letter)} before: what is applied already is not applied again`
          : ''
      console.log(`${letter.place}  sent to ${letter.source.topic}/${letter.source.partition}${again}`)
    }
  } finally {
    await publisher.stop()
  }
  return complete
}

const letters = await readAll()
const missing = places.filter(place => !letters.some(letter => letter.place === place))
for (const place of missing) console.error(`${place}: there is no such dead letter of the ${consumer}`)
const chosen = flags.all
  ? letters.filter(({ redriven }) => redriven.length === 0)
  : letters.filter(({ place }) => places.includes(place))
let done = missing.length === 0
if (!done) console.error('nothing was done')
else if (action === 'list') list(letters)
else if (action === 'show') await show(chosen[0]!)
else done = await redrive(chosen)
endCommand(done ? EXIT.ok : EXIT.wrong)
