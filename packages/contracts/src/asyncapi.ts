// The AsyncAPI 3 document of the topics and their records: docs/asyncapi.json, which `npm run docs` writes, and the
// gateway's `/asyncapi.json` and `/docs/events`.
import { changesOf, type RecordSchema } from './avro-words.ts'
import { DECIDED_AT, exampleInAvroJson, REQUESTED_AT } from './event-examples.ts'
import { FROZEN, loadFrozen } from './frozen-schemas.ts'
import { kindOf } from './record-kinds.ts'
import { canonicalSchema, RECORD_NAMES } from './schemas.ts'
import { TOPICS, type Topic } from './topics.ts'

/** The topics that the programs of other teams may read; all others are internal. */
export const OPEN_TOPICS = ['ledger.events', 'identity.events'] as const satisfies Topic[]
const isOpen = (topic: Topic) => (OPEN_TOPICS as readonly Topic[]).includes(topic)

const AVRO = 'application/vnd.apache.avro+json;version=1.9.0'
const WIRE_FORMAT = 'application/vnd.confluent.avro'
const KAFKA_BINDING = '0.5.0'

type Ref = { $ref: string }
type Json = null | boolean | number | string | Json[] | { [name: string]: Json }
export type Message = {
  name: string
  title: string
  summary: string
  description: string
  contentType: string
  tags: { name: string }[]
  headers: Json
  payload: { schemaFormat: string; schema: Json }
  correlationId?: Ref
  bindings: Json
  examples: { name: string; summary: string; headers: Record<string, string>; payload: Json }[]
  'x-versions'?: { version: number; added: string[]; dropped: string[] }[]
}
export type Channel = {
  address: Topic
  title: string
  description: string
  tags: { name: string }[]
  messages: Record<string, Ref>
  bindings: {
    kafka: { topic: string; partitions: number; topicConfiguration: Json; bindingVersion: string }
  }
}
export type AsyncApi = {
  asyncapi: '3.0.0'
  id: string
  info: { title: string; version: string; description: string; license: { name: string }; tags: Json }
  defaultContentType: string
  servers: Json
  channels: Record<string, Channel>
  operations: Record<string, Json>
  components: {
    messages: Record<string, Message>
    schemas: Record<string, Json>
    correlationIds: Record<string, { location: string; description: string }>
    securitySchemes: Json
  }
}

/** What the channels are about; docs/events.md tells the same in its table. */
const CHANNELS: Record<Topic, { title: string; what: string }> = {
  'ledger.commands': {
    title: 'Commands to the ledger',
    what: 'What is asked of the ledger, by the gateway.',
  },
  'ledger.events': {
    title: 'Events of the ledger',
    what:
      'What the ledger decided: one event for each command, on the number of its partition. A wallet’s entries count ' +
      'from 1 without a gap in `sequence`; what it receives comes from other partitions, and may overtake.',
  },
  'identity.events': {
    title: 'Events of accounts',
    what: 'What happened to accounts, sessions, PINs, API keys and webhooks.',
  },
  'notifier.commands': {
    title: 'Commands to the notifier',
    what: 'Mails that carry a secret, which only the notifier can read, and notices that no event of the ledger states.',
  },
  'ledger.dead-letters': {
    title: 'Dead letters of the ledger',
    what: 'Records of `ledger.commands` that the ledger cannot apply, as received.',
  },
  'notifier.dead-letters': {
    title: 'Dead letters of the notifier',
    what: 'Records that the notifier cannot handle, as received.',
  },
  'audit.checkpoints': {
    title: 'Checkpoints of the audit trail',
    what: 'Signed heads of the audit trail’s hash chains, each with the hash of the one before it.',
  },
}

const keyOf = (topic: Topic) => topic.replace(/[.-](\w)/g, (_, letter: string) => letter.toUpperCase())
const ref = (...path: string[]): Ref => ({ $ref: `#/${path.join('/')}` })
const text = (description: string, more: Record<string, Json> = {}): Json => ({
  type: 'string',
  description,
  ...more,
})
const capital = (words: string) => words.slice(0, 1).toUpperCase() + words.slice(1)

const UUID = { type: 'string', format: 'uuid' }
const TRACE = text('The trace of the request that caused it, where there is one (W3C).', {
  pattern: '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$',
})

/** CloudEvents 1.0 in Kafka's binary mode, and what the kinds of records add. */
const envelopeSchemas = (): Record<string, Json> => {
  const required = [
    'content-type',
    'ce_specversion',
    'ce_id',
    'ce_type',
    'ce_source',
    'ce_time',
    'ce_subject',
  ]
  const envelope = (
    id: string,
    subject: string,
    more: Record<string, Json>,
    needed: string[] = [],
  ): Json => ({
    type: 'object',
    required: [...required, ...needed],
    properties: {
      'content-type': { type: 'string', const: WIRE_FORMAT },
      ce_specversion: { type: 'string', const: '1.0' },
      ce_id: text(id),
      ce_type: text('The record’s full name: choose by it, without decoding.'),
      ce_source: { type: 'string', enum: ['/pennywire/gateway', '/pennywire/ledger'] },
      ce_time: text('When it was made or decided.', { format: 'date-time' }),
      ce_subject: text(subject),
      traceparent: TRACE,
      ...more,
    },
  })
  const request = text('The request that caused it (`x-request-id`), where there is one.')
  return {
    LedgerCommandHeaders: envelope(
      'The command’s id.',
      'The command’s id.',
      { request_id: request, 'pw-mac': text('The gateway’s MAC; a record without one is set aside.') },
      ['pw-mac'],
    ),
    LedgerEventHeaders: envelope(
      'Partition and `seq`: a repeat has the same.',
      'The id of the command that it answers.',
      {
        seq: text('Counts the partition’s events from 1; a repeat has its first one.', {
          pattern: '^[1-9][0-9]*$',
        }),
      },
      ['seq'],
    ),
    IdentityEventHeaders: envelope('The event’s id.', 'The record’s key.', { request_id: request }),
    NotifierCommandHeaders: envelope('The command’s id.', 'The user.', {}),
    DeadLetterHeaders: {
      type: 'object',
      description: 'The record’s own headers, and these.',
      required: ['dead_letter_reason', 'dead_letter_topic', 'dead_letter_partition', 'dead_letter_offset'],
      properties: {
        dead_letter_reason: text('Why it was set aside.'),
        dead_letter_topic: { type: 'string', enum: Object.keys(TOPICS) },
        dead_letter_partition: text('The partition that it came from.', { pattern: '^[0-9]+$' }),
        dead_letter_offset: text('Its offset there.', { pattern: '^[0-9]+$' }),
      },
    },
    CheckpointHeaders: {
      type: 'object',
      required,
      properties: {
        'content-type': { type: 'string', const: 'application/jose' },
        ce_specversion: { type: 'string', const: '1.0' },
        ce_id: text('SHA-256 of the token.'),
        ce_type: { type: 'string', const: 'pennywire.audit.Checkpoint' },
        ce_source: { type: 'string', const: '/pennywire/audit' },
        ce_time: text('When it was signed.', { format: 'date-time' }),
        ce_subject: text('Its number: checkpoints count from 1.'),
      },
    },
  }
}

const HEADERS_OF: Partial<Record<Topic, string>> = {
  'ledger.commands': 'LedgerCommandHeaders',
  'ledger.events': 'LedgerEventHeaders',
  'identity.events': 'IdentityEventHeaders',
  'notifier.commands': 'NotifierCommandHeaders',
}
const CORRELATION_OF: Partial<Record<Topic, string>> = {
  'ledger.commands': 'command',
  'ledger.events': 'answeredCommand',
  'identity.events': 'request',
  'notifier.commands': 'trace',
}
const REQUEST_ID = '0f7c2a9e-4c1b-4f0e-9b53-2d1a6f0c8e11'
const TRACE_ID = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'

const exampleHeaders = (
  topic: Topic,
  fullName: string,
  payload: Record<string, unknown>,
): Record<string, string> => {
  const isEvent = topic === 'ledger.events'
  const [first] = Object.values(payload) as [string]
  // Of an event about another's transfer or hold, the command is in a field of its own.
  const { commandId, userId } = payload
  const command = typeof commandId === 'string' ? commandId : first
  return {
    'content-type': WIRE_FORMAT,
    ce_specversion: '1.0',
    ce_id: isEvent ? '5-1042' : first,
    ce_type: fullName,
    ce_source: isEvent ? '/pennywire/ledger' : '/pennywire/gateway',
    ce_time: new Date(topic.endsWith('.events') ? DECIDED_AT : REQUESTED_AT).toISOString(),
    ce_subject: topic.startsWith('ledger.') || typeof userId !== 'string' ? command : userId,
    traceparent: TRACE_ID,
    ...(isEvent ? { seq: '1042' } : {}),
    ...(topic === 'ledger.commands' || topic === 'identity.events' ? { request_id: REQUEST_ID } : {}),
    ...(topic === 'ledger.commands' ? { 'pw-mac': 'k1.Zb0mJk3q8v2cX1tR5yW7nA' } : {}),
  }
}

const keyBinding = (key: Json): Json => ({
  kafka: {
    key,
    schemaIdLocation: 'payload',
    schemaIdPayloadEncoding: 'confluent',
    schemaLookupStrategy: 'RecordNameStrategy',
    bindingVersion: KAFKA_BINDING,
  },
})

const messageOf = (fullName: string, schema: RecordSchema, versions: Message['x-versions']): Message => {
  const kind = kindOf(fullName)
  const payload = exampleInAvroJson(schema)
  const movesMoney = schema.fields.some(({ name }) => name === 'entries')
  const rules = [
    `Order: ${kind.order}.`,
    `Duplicates: ${kind.repeats}; do once-only work by \`${schema.fields[0]!.name}\`${movesMoney ? ', keep balances by "a greater `sequence` wins"' : ''}.`,
  ]
  return {
    name: fullName,
    title: schema.name,
    summary: /^.*?[.](?= |$)/.exec(schema.doc)?.[0] ?? schema.doc,
    description: [schema.doc, ...rules].join('\n\n'),
    contentType: WIRE_FORMAT,
    tags: [{ name: isOpen(kind.topic) ? 'open' : 'internal' }],
    headers: {
      type: 'object',
      allOf: [
        ref('components', 'schemas', HEADERS_OF[kind.topic]!),
        { type: 'object', properties: { ce_type: { type: 'string', const: fullName } } },
      ],
    },
    payload: { schemaFormat: AVRO, schema: schema as unknown as Json },
    correlationId: ref('components', 'correlationIds', CORRELATION_OF[kind.topic]!),
    bindings: keyBinding({ ...UUID, description: `${capital(kind.key.replaceAll('`', ''))}.` }),
    examples: [
      {
        name: `a${schema.name}`,
        summary: 'In Avro’s JSON encoding: a union’s value names its branch, each byte is one character.',
        headers: exampleHeaders(kind.topic, fullName, payload),
        payload: payload as Json,
      },
    ],
    ...(versions ? { 'x-versions': versions } : {}),
  }
}

/** What is no record of a schema. */
const otherMessages = (): Record<string, Message> => ({
  DeadLetter: {
    name: 'DeadLetter',
    title: 'DeadLetter',
    summary: 'A record that its consumer cannot handle.',
    description:
      'Key and value as received, to the byte; a mark of a redrive has no value, and the header `dead_letter_redriven`.',
    contentType: 'application/octet-stream',
    tags: [{ name: 'internal' }],
    headers: ref('components', 'schemas', 'DeadLetterHeaders'),
    payload: {
      schemaFormat: 'application/schema+json;version=draft-07',
      schema: text('The value as received.', { format: 'binary' }),
    },
    bindings: {
      kafka: { key: text('The record’s key, as received.'), bindingVersion: KAFKA_BINDING },
    },
    examples: [
      {
        name: 'unreadable',
        summary: 'A record that is no Avro.',
        headers: {
          dead_letter_reason: 'not in the Confluent wire format',
          dead_letter_topic: 'ledger.commands',
          dead_letter_partition: '5',
          dead_letter_offset: '1042',
        },
        payload: 'of no schema',
      },
    ],
  },
  Checkpoint: {
    name: 'pennywire.audit.Checkpoint',
    title: 'Checkpoint',
    summary: 'A signed checkpoint: the heads of all chains at one moment.',
    description: 'A JWS in compact form, signed with Ed25519. docs/audit.md tells how to verify it.',
    contentType: 'application/jose',
    tags: [{ name: 'internal' }],
    headers: ref('components', 'schemas', 'CheckpointHeaders'),
    payload: {
      schemaFormat: 'application/schema+json;version=draft-07',
      schema: text('The token.', { pattern: '^[\\w-]+\\.[\\w-]+\\.[\\w-]+$' }),
    },
    bindings: {
      kafka: {
        key: text('The checkpoint’s number.', { pattern: '^[1-9][0-9]*$' }),
        bindingVersion: KAFKA_BINDING,
      },
    },
    examples: [
      {
        name: 'third',
        summary: 'Shortened: a real one has every chain in it.',
        headers: {
          'content-type': 'application/jose',
          ce_specversion: '1.0',
          ce_id: '9f2a7d7e2f6e4f6cb5f0a9d0c1b2a3948576a1b2c3d4e5f60718293a4b5c6d7e',
          ce_type: 'pennywire.audit.Checkpoint',
          ce_source: '/pennywire/audit',
          ce_time: '2026-01-15T12:00:00.000Z',
          ce_subject: '3',
        },
        payload: 'eyJhbGciOiJFZERTQSJ9.eyJzZXF1ZW5jZSI6M30.c2lnbmF0dXJl',
      },
    ],
  },
})

const messagesOn = (topic: Topic, messages: Record<string, Message>): string[] => {
  if (topic.endsWith('.dead-letters')) return ['DeadLetter']
  if (topic === 'audit.checkpoints') return ['Checkpoint']
  return Object.entries(messages).flatMap(([name, message]) =>
    message.payload.schemaFormat === AVRO && kindOf(message.name).topic === topic ? [name] : [],
  )
}

const channelOf = (topic: Topic, messages: Record<string, Message>): Channel => {
  const { partitions, retentionMs, maxMessageBytes } = TOPICS[topic]
  const { title, what } = CHANNELS[topic]
  const access = isOpen(topic)
    ? ' Other teams read it as the user `downstream`, in consumer groups whose names begin with `downstream-`.'
    : ' Internal: no other team may read it.'
  return {
    address: topic,
    title,
    description: `${what}${access}`,
    tags: [{ name: isOpen(topic) ? 'open' : 'internal' }],
    messages: Object.fromEntries(
      messagesOn(topic, messages).map(name => [name, ref('components', 'messages', name)]),
    ),
    bindings: {
      kafka: {
        topic,
        partitions,
        topicConfiguration: {
          'cleanup.policy': ['delete'],
          'retention.ms': retentionMs,
          'retention.bytes': -1,
          'max.message.bytes': maxMessageBytes,
        },
        bindingVersion: KAFKA_BINDING,
      },
    },
  }
}

/** Who sends and who receives. AsyncAPI states it from the view of the described application, which is all of Pennywire. */
const operationsOf = (channels: Record<string, Channel>): Record<string, Json> => {
  const messages = (topic: Topic): Json =>
    Object.keys(channels[keyOf(topic)]!.messages).map(name => ref('channels', keyOf(topic), 'messages', name))
  const operation = (action: 'send' | 'receive', topic: Topic, summary: string, more: Json = {}): Json => ({
    action,
    channel: ref('channels', keyOf(topic)),
    title: `${action === 'send' ? 'Publishes' : 'Reads'} ${topic}`,
    summary,
    tags: [{ name: isOpen(topic) ? 'open' : 'internal' }],
    messages: messages(topic),
    ...(more as object),
  })
  const group = (groupId: string): Json => ({
    bindings: { kafka: { groupId: { type: 'string', const: groupId }, bindingVersion: KAFKA_BINDING } },
  })
  return {
    publishLedgerEvents: operation('send', 'ledger.events', 'The ledger publishes what it has decided.'),
    publishIdentityEvents: operation(
      'send',
      'identity.events',
      'The gateway publishes what happened to accounts, in the transaction in which it happened.',
    ),
    requestOfLedger: operation('send', 'ledger.commands', 'The gateway asks, with its MAC.'),
    decideCommands: operation('receive', 'ledger.commands', 'The ledger decides each command once.', {
      ...(group('ledger') as object),
      reply: { channel: ref('channels', 'ledgerEvents'), messages: messages('ledger.events') },
    }),
    requestOfNotifier: operation('send', 'notifier.commands', 'The gateway asks for mails and notices.'),
    notify: operation(
      'receive',
      'notifier.commands',
      'The notifier handles each id once.',
      group('notifier'),
    ),
    setAsideCommands: operation(
      'send',
      'ledger.dead-letters',
      'The ledger sets a record aside, and goes on.',
    ),
    setAsideEvents: operation(
      'send',
      'notifier.dead-letters',
      'The notifier sets a record aside, and goes on.',
    ),
    signCheckpoints: operation(
      'send',
      'audit.checkpoints',
      'The audit service signs the heads of its chains.',
    ),
  }
}

const serverBinding = (schemaRegistryUrl: string): Json => ({
  kafka: { schemaRegistryUrl, schemaRegistryVendor: 'apicurio', bindingVersion: KAFKA_BINDING },
})

const servers = (): Json => ({
  production: {
    host: '{host}:{port}',
    protocol: 'kafka-secure',
    title: 'A production cluster',
    description: 'Brokers that speak TLS and authenticate by SCRAM, with a registry beside them.',
    variables: {
      host: { description: 'A broker.', default: 'kafka.example.com', examples: ['kafka.example.com'] },
      port: { description: 'Its port.', default: '9093', examples: ['9093'] },
    },
    security: [ref('components', 'securitySchemes', 'scramSha512')],
    bindings: serverBinding('https://registry.example.com/apis/ccompat/v7'),
  },
  local: {
    host: '127.0.0.1:{port}',
    protocol: 'kafka',
    title: 'The stack of `npm start`',
    description:
      'The password of the user `downstream` is in `.pennywire/keys/kafka-downstream.password`. The registry is read without one.',
    variables: { port: { description: '`KAFKA_PORT`.', default: '19092', examples: ['19092'] } },
    security: [ref('components', 'securitySchemes', 'plain')],
    bindings: serverBinding('http://127.0.0.1:18081/apis/ccompat/v7'),
  },
})

/** The whole document. The order of its parts is fixed, so that equal contracts give equal bytes. */
export const asyncApiDocument = (): AsyncApi => {
  const frozen = Map.groupBy(loadFrozen(FROZEN), ({ name }) => name)
  const messages: Record<string, Message> = Object.fromEntries(
    RECORD_NAMES.map(fullName => {
      const schema = JSON.parse(canonicalSchema(fullName)) as RecordSchema
      const versions = frozen.get(schema.name)
      return [schema.name, messageOf(fullName, schema, versions && changesOf(versions))]
    }),
  )
  Object.assign(messages, otherMessages())
  const channels = Object.fromEntries(
    (Object.keys(TOPICS) as Topic[]).map(topic => [keyOf(topic), channelOf(topic, messages)]),
  )
  return {
    asyncapi: '3.0.0',
    id: 'urn:pennywire:events',
    info: {
      title: 'Pennywire events',
      version: '1',
      description:
        'Every movement of money, and everything that happens to accounts, is a record on a Kafka topic. The schemas are ' +
        'promises: a field is never renamed or removed, new ones have a default, and what was sent once can be read for ' +
        'ever. Values are Avro in the Confluent wire format: a zero byte, the schema’s id in the registry (4 bytes, big ' +
        'endian), the record. An amount (`minor-units`) is a long of the currency’s minor units, a time ' +
        '(`timestamp-millis`) counts milliseconds since 1970 UTC. Pass over a `ce_type` that you do not know.',
      license: { name: 'Apache-2.0' },
      tags: [
        { name: 'open', description: 'For every team.' },
        { name: 'internal', description: 'Within Pennywire.' },
      ],
    },
    defaultContentType: WIRE_FORMAT,
    servers: servers(),
    channels,
    operations: operationsOf(channels),
    components: {
      messages,
      schemas: envelopeSchemas(),
      correlationIds: {
        command: {
          location: '$message.header#/ce_subject',
          description: 'The command’s id, which the event that answers it has too.',
        },
        answeredCommand: {
          location: '$message.header#/ce_subject',
          description: 'The id of the command that the event answers.',
        },
        request: {
          location: '$message.header#/request_id',
          description: 'The request that caused it, where there is one.',
        },
        trace: {
          location: '$message.header#/traceparent',
          description: 'The trace of the request that caused it, where there is one.',
        },
      },
      securitySchemes: {
        scramSha512: {
          type: 'scramSha512',
          description: 'A user and password of the team, by SASL over TLS.',
        },
        plain: { type: 'plain', description: 'The user `downstream` of the local stack, by SASL.' },
      },
    },
  }
}
