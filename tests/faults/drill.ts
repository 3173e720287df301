// `npm run drill`: one of the three disaster drills, on a system and with data of its own. USAGE tells the options.
import { beginCommand } from '@pennywire/runtime/command.ts'
import { DRILLS } from './drills.ts'
import { runSuite } from './run-suite.ts'

const USAGE = `usage: npm run drill -- ${Object.keys(DRILLS).join('|')} [--json]

Starts a whole system of its own on free ports, with clients that pay; brings the disaster about; does what the page of the
drill says, command by command (docs/drills); and judges: every answer that a client got, the books, the audit trail, the
payments and what users were told. Shows how long each step took. Takes two to six minutes, and removes its data.

  database-behind  The ledger's database goes back to an earlier moment, as after an asynchronous failover.
  kafka-lost       Kafka and the schema registry lose everything.
  both-restored    Both come from backups of different moments; once the database is newer, once Kafka.
  --json           Writes one JSON document to stdout.
  --help           Writes this.

Exit codes: 0 without a violation; 1 with one (each is shown); 2 wrong options.
Example: npm run drill -- kafka-lost
`

const flag = { type: 'boolean', default: false } as const
const { values: options, positionals } = beginCommand(
  USAGE,
  { options: { json: flag }, allowPositionals: true },
  ({ positionals: [name = '', ...more] }) => {
    if (name === '') throw new Error('which drill?')
    if (more.length > 0 || !Object.hasOwn(DRILLS, name))
      throw new Error(`${[name, ...more].join(' ')} is no drill`)
  },
)
const name = positionals[0]!
const chosen = new Set(DRILLS[name]!.map(drill => drill.name))
await runSuite(faults => faults.filter(fault => chosen.has(fault.name)), options)
