// The second part of `npm run reconcile`: compares the payments with the ledger and with the payment provider. Prints
// each difference with the action to take, and exits with 1 if there is one.

import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { beginCommand, EXIT, endCommand } from '@pennywire/runtime/command.ts'
import { jsonFile, loadConfig } from '@pennywire/runtime/config.ts'
import { LONG_DEADLINE_MS, openDatabase } from '@pennywire/runtime/database.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { z } from 'zod'
import { comparePayments } from './compare-payments.ts'
import { connectPaymentProvider, providerSecrets } from './payment-provider.ts'
import {
  readHeldWithdrawals,
  readLedgerStatuses,
  readOutsideTransfers,
  readSuspense,
} from './sql/payment-reads.ts'
import { readPayment, readPaymentsAfter } from './sql/payments.ts'

const PAGE = 500

beginCommand('usage: npm run reconcile\n\nThis is its second part.\n\nExample: npm run reconcile')

const config = loadConfig(
  {
    DATABASE_URL: databaseUrl,
    LEDGER_READ_URL: databaseUrl,
    PROVIDER_URL: z.url(),
    PROVIDER_SECRET_FILE: jsonFile(providerSecrets),
    PAYMENT_STUCK_SECONDS: z.coerce.number().int().min(1).default(3_600),
    /** Time for an apparent difference to resolve before it is checked again. */
    RECONCILE_PAUSE_SECONDS: z.coerce.number().min(0).max(600).default(5),
  },
  process.env,
)
const sql = openDatabase(config.DATABASE_URL, {
  applicationName: 'reconcile',
  deadlineMs: LONG_DEADLINE_MS,
  maxConnections: 2,
})
const ledgerRead = openDatabase(config.LEDGER_READ_URL, {
  applicationName: 'reconcile',
  deadlineMs: LONG_DEADLINE_MS,
  maxConnections: 2,
})
const provider = connectPaymentProvider({
  url: config.PROVIDER_URL,
  secrets: config.PROVIDER_SECRET_FILE,
  callbackUrl: '',
  clock: systemClock,
})

const { payments, differences } = await comparePayments({
  readPaymentsAfter: after => readPaymentsAfter(sql, after, PAGE),
  readPayment: id => readPayment(sql, id),
  readLedgerStatuses: ids => readLedgerStatuses(ledgerRead, ids),
  readOutsideTransfers: after => readOutsideTransfers(ledgerRead, after, PAGE),
  readHeldWithdrawals: after => readHeldWithdrawals(ledgerRead, after, PAGE),
  readSuspense: () => readSuspense(ledgerRead),
  listProvider: provider.list,
  askProvider: provider.ask,
  stuckBefore: new Date(Date.now() - config.PAYMENT_STUCK_SECONDS * 1_000),
  pause: () => sleep(config.RECONCILE_PAUSE_SECONDS * 1_000),
})
await Promise.all([sql.end(), ledgerRead.end()])

for (const { id, what, todo } of differences) console.log(`DIFFERS  ${id}  ${what}\n         do: ${todo}`)
console.log(
  `${payments} payments compared with the ledger and the payment provider: ${differences.length} differences`,
)
console.log(differences.length === 0 ? 'The payments agree.' : 'The payments do NOT agree.')
endCommand(differences.length === 0 ? EXIT.ok : EXIT.wrong)
