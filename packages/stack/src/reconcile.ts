// `npm run reconcile`: proves the books (M1-M3, O1 and the rest of `verify-books`), then compares the payments with the
// ledger and with the payment provider. Both parts always run; exits with 1 where either finds something.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { beginCommand, EXIT } from '@pennywire/runtime/command.ts'

beginCommand(`usage: npm run reconcile

Proves the books, as verify-books does, then compares the payments with the ledger and with the payment provider, and names
each difference with what to do. It changes nothing and may run beside a running system.

  --help  Writes this.

Settings: those of verify-books; GATEWAY_DATABASE_URL, LEDGER_READ_URL, PROVIDER_URL, PROVIDER_SECRET_FILE,
PAYMENT_STUCK_SECONDS, RECONCILE_PAUSE_SECONDS.
Exit codes: 0 all agree, 1 something differs, 2 wrong options or settings, 3 it could not be checked.
Example: npm run reconcile`)

const PARTS = ['services/ledger/src/verify-books.ts', 'services/gateway/src/payments/reconcile.ts']

const statuses: number[] = []
for (const part of PARTS) {
  const script = join(import.meta.dirname, 'run-command.ts')
  const { status } = spawnSync(process.execPath, [script, part], { stdio: 'inherit' })
  statuses.push(status ?? EXIT.failed)
  // No stack, or it is stopped: the second part would only say the same again.
  if (status === EXIT.usage || status === EXIT.failed) break
}
process.exitCode = Math.max(...statuses)
