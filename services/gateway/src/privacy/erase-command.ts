// `npm run persons:erase -- --user ID`: erases a person by the same use case as the gateway's routes. USAGE tells the
// options and settings, EXIT the exit codes.

import { createInterface } from 'node:readline/promises'
import { connectRegistry, createCodec, registryAccessOf } from '@pennywire/kafka/codec.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { beginCommand, EXIT, endCommand } from '@pennywire/runtime/command.ts'
import { loadConfig, registrySettings } from '@pennywire/runtime/config.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { continueTrace } from '@pennywire/runtime/tracing.ts'
import { z } from 'zod'
import { createIdentityEvent } from '../identity/events/announce.ts'
import { findUser } from '../identity/persons/sql/users.ts'
import { createInTransaction } from '../outbox/in-transaction.ts'
import { ProblemError } from '../problems/problem.ts'
import { createErasePerson, type Progress } from './erase-person.ts'
import { inWords } from './find-blockers.ts'
import type { Blocker } from './sql/erasures.ts'
import { readErasure } from './sql/erasures.ts'

const USAGE = `usage: npm run persons:erase -- --user ID [--yes] [--json] [--check]

Erases a person: closes their empty wallets, destroys their key, and clears what is stored about them. Nobody can take it
back. Refused while money, holds, unfinished payments, a frozen wallet or a role of staff stand in the way. A repeat
answers the same. Gateways and ledgers have to be running: they publish and decide the closing of the wallets.

  --user ID  The user's id.
  --yes      Does not ask whether to go on.
  --check    Tells what stands in the way, and erases nobody.
  --json     Writes one JSON document to stdout; needs --yes or --check.
  --help     Writes this.

Settings: DATABASE_URL (the gateway's), LEDGER_READ_URL, REGISTRY_URL.
Exit codes: 0 the person is erased (with --check: nothing stands in the way), 1 something stands in the way or there is no
such person, 2 wrong options or settings, 3 it is not finished yet (the gateways go on), or it could not be done.
Example: npm run persons:erase -- --user 5b0e7f6c-2a43-4d9e-9c63-6f5a1c0a7f11 --check
`
/** The wallets close within moments; what is left after so many rounds of ten seconds, the gateways end. */
const ROUNDS = 6

const userIdOf = (text: string | undefined) => z.uuid().toLowerCase().safeParse(text)
const flag = { type: 'boolean', default: false } as const
const { values: options } = beginCommand(
  USAGE,
  { options: { user: { type: 'string' }, yes: flag, check: flag, json: flag } },
  ({ values: { user, yes, check, json } }) => {
    if (user === undefined) throw new Error('--user is missing')
    if (!userIdOf(user).success) throw new Error('--user must be a UUID')
    if (json && !yes && !check) throw new Error('--json needs --yes or --check')
    if (!yes && !check && !process.stdin.isTTY) throw new Error('--yes is missing: nobody can be asked')
  },
)
const userId = userIdOf(options.user).data!

const config = loadConfig(
  { DATABASE_URL: databaseUrl, LEDGER_READ_URL: databaseUrl, ...registrySettings },
  process.env,
)
const applicationName = 'persons-erase'
const sql = openDatabase(config.DATABASE_URL, { applicationName, maxConnections: 2 })
const ledgerRead = openDatabase(config.LEDGER_READ_URL, { applicationName, maxConnections: 2 })

/** Writes the outcome and ends. */
const finish = async (
  code: number,
  state: string,
  words: string,
  facts: { blockers?: Blocker[]; erasedAt?: string } = {},
): Promise<void> => {
  if (options.json) process.stdout.write(`${JSON.stringify({ userId, state, ...facts })}\n`)
  else process.stdout.write(`${words}\n`)
  await Promise.all([sql.end({ timeout: 5 }), ledgerRead.end({ timeout: 5 })])
  endCommand(code)
}
const refuse = (blockers: Blocker[]) =>
  finish(EXIT.wrong, 'blocked', `Not erased:\n${blockers.map(each => `  ${inWords(each)}`).join('\n')}`, {
    blockers,
  })

const run = async (): Promise<void> => {
  const user = await findUser(sql, userId)
  if (!user) return finish(EXIT.wrong, 'unknown', 'There is no such person.')
  const known = await readErasure(sql, userId)
  const isErased = (at: Date) =>
    finish(EXIT.ok, 'erased', `The person is erased since ${at.toISOString()}.`, {
      erasedAt: at.toISOString(),
    })
  if (known?.erasedAt) return isErased(known.erasedAt)

  const codec = await createCodec(connectRegistry(config.REGISTRY_URL, registryAccessOf(config)))
  const erasePerson = createErasePerson({
    ...{ sql, ledgerRead, codec, clock: systemClock },
    // The gateways' relay finds the records within a second.
    inTransaction: createInTransaction(sql, () => {}),
    announce: { identityEvent: createIdentityEvent(codec, systemClock) },
    tellBlocked: async () => {},
    // The gateways find the ends of sessions in the database within a second.
    pushEnded: async () => {},
    forget: () => {},
  })
  const blockers = await erasePerson.findBlockers(user, 'command')
  if (blockers.length > 0) return refuse(blockers)
  if (options.check) return finish(EXIT.ok, 'ready', 'Nothing stands in the way.')
  if (!options.yes) {
    const asking = createInterface({ input: process.stdin, output: process.stderr })
    const answer = await asking.question(`Erase user ${userId} for ever? Type the id once more: `)
    asking.close()
    if (answer.trim().toLowerCase() !== userId) return finish(EXIT.wrong, 'refused', 'Not erased.')
  }
  const traceparent = continueTrace(undefined)
  const dueAt = new Date(systemClock.now())
  await erasePerson.decide({ userId, source: 'command', byUserId: null, reason: null, dueAt })
  for (let round = 0; round < ROUNDS; round++) {
    const progress: Progress = await erasePerson.erase(userId, traceparent)
    if (progress.state === 'blocked') return refuse(progress.blockers)
    if (progress.state === 'erased') return isErased(progress.at)
    if (progress.state === 'gone') break
    process.stderr.write('The wallets are not closed yet …\n')
  }
  return finish(EXIT.failed, 'erasing', 'Not finished yet; the gateways go on.')
}

run().catch(async error => {
  if (error instanceof ProblemError && error.code === 'ERASURE_BLOCKED') {
    return refuse(error.members.blockers as Blocker[])
  }
  process.stderr.write(`${(error as Error).message}\n`)
  return finish(EXIT.failed, 'failed', 'Not erased; a repeat is safe.')
})
