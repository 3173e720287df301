// `npm run reconcile`: proves the books (M1-M3, O1 and the rest of `verify-books`), then compares the payments with the
// ledger and with the payment provider. Both parts always run; exits with 1 where either finds something.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'

const PARTS = ['services/ledger/src/verify-books.ts', 'services/gateway/src/payments/reconcile.ts']

const statuses = PARTS.map(
  part =>
    spawnSync(process.execPath, [join(import.meta.dirname, 'run-command.ts'), part], { stdio: 'inherit' })
      .status ?? 1,
)
process.exit(Math.max(...statuses))
