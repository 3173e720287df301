// An example for other teams: derives every wallet's balance from the events alone. It uses only public clients, no
// code of Pennywire: npm install kafkajs @kafkajs/confluent-schema-registry
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import registryClient from '@kafkajs/confluent-schema-registry'
import kafkajs from 'kafkajs'

const {
  KAFKA_BROKERS = '127.0.0.1:19092',
  KAFKA_SASL_USERNAME: username,
  KAFKA_SASL_PASSWORD_FILE: passwordFile,
  REGISTRY_URL = 'http://127.0.0.1:18081/apis/ccompat/v7',
} = process.env
const password = passwordFile && readFileSync(passwordFile, 'utf8').trim()
const registry = new registryClient.SchemaRegistry({ host: REGISTRY_URL })
const kafka = new kafkajs.Kafka({
  brokers: KAFKA_BROKERS.split(','),
  logLevel: kafkajs.logLevel.ERROR,
  ...(username && password ? { sasl: { mechanism: 'plain', username, password } } : {}),
})
// Balances are kept only in memory, so each run reads the whole topic, in a group of its own.
const consumer = kafka.consumer({ groupId: `example-balances-${randomUUID()}` })

/** The two events that contain entries: a hold moves nothing until it is captured. */
const MOVES_MONEY = ['pennywire.ledger.TransferCompleted', 'pennywire.ledger.TransferReversed']
type Entry = { walletId: string; currency: string; balanceAfterMinor: number; sequence: number }
const balances = new Map<string, Entry>()

await consumer.connect()
await consumer.subscribe({ topics: ['ledger.events'], fromBeginning: true })
await consumer.run({
  eachMessage: async ({ message }) => {
    // The envelope contains the type, so no decoding is needed. Skip unknown types: further ones will be added.
    if (!MOVES_MONEY.includes(message.headers?.ce_type?.toString() ?? '')) return
    const { entries } = (await registry.decode(message.value!)) as { entries: Entry[] }
    for (const entry of entries) {
      // The greater sequence wins: this covers repeats and records of other senders that overtook this one.
      if (entry.sequence <= (balances.get(entry.walletId)?.sequence ?? 0)) continue
      balances.set(entry.walletId, entry)
      console.log(
        `${entry.walletId} ${entry.balanceAfterMinor} ${entry.currency} minor units, entry ${entry.sequence}`,
      )
    }
  },
})
