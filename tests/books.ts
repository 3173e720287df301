import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, inject } from 'vitest'

/** Verifies all books with the ledger's own command. For tests that leave the system idle. */
export const expectBooksToBeRight = () => {
  const script = join(import.meta.dirname, '..', 'services', 'ledger', 'src', 'verify-books.ts')
  const verified = spawnSync(process.execPath, [script], {
    env: inject('system').env.ledger,
    encoding: 'utf8',
  })
  expect(verified.stdout + verified.stderr).toContain('The books are right.')
  expect(verified.status).toBe(0)
}
