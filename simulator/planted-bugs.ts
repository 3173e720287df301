/**
 * Bugs that the simulation must find. Each changes the source text as it is loaded: the services contain nothing of it,
 * and a text that no longer occurs exactly once throws an error (plant.ts).
 */
export type PlantedBug = {
  name: string
  /** The effect of the bug, for the table of results. */
  what: string
  file: string
  replace: Array<[from: string, to: string]>
}

const applyBatch = 'services/ledger/src/apply-batch.ts'
const relay = 'services/ledger/src/publish-journal.ts'
const consume = 'services/ledger/src/consume-commands.ts'
const catchUpBooks = 'services/ledger/src/catch-up-books.ts'
const replayEvents = 'services/ledger/src/replay-events.ts'
const writeReplayed = 'services/ledger/src/write-replayed.ts'
const eventRows = 'services/ledger/src/event-rows.ts'
const checkEvents = 'services/ledger/src/check-events.ts'
const republish = 'services/ledger/src/republish-journal.ts'
const publisher = 'packages/kafka/src/publisher.ts'
const applyCommand = 'services/ledger/src/apply-command.ts'
const fence = 'services/ledger/src/fence.ts'
const recordEvent = 'services/ledger/src/record-event.ts'
const systemWallets = 'services/ledger/src/system-wallets.ts'
const transferEvents = 'services/ledger/src/commands/transfer-events.ts'
const transferCommands = 'services/ledger/src/commands/transfer.ts'
const walletCommands = 'services/ledger/src/commands/wallet.ts'
const limitCommands = 'services/ledger/src/commands/limits.ts'
const decide = 'packages/rules/src/decide.ts'
const limits = 'packages/rules/src/limits.ts'
const walletRules = 'packages/rules/src/wallet-rules.ts'
const requestTransfer = 'services/gateway/src/transfers/request-transfer.ts'
const awaitOutcome = 'services/gateway/src/ledger/await-outcome.ts'
const askLedger = 'services/gateway/src/ledger/ask-ledger.ts'
const payOut = 'services/gateway/src/payments/payment.ts'
/** A bug that would be in SQL is planted in the simulator's counterpart of the SQL. */
const engine = 'simulator/postgres.ts'
const store = 'simulator/ledger-store.ts'

const LOCK_PARTITIONS = `const rows = yield* statement.lock('partitions', keys, skipLocked)`
const LOCK_WALLETS = `const rows = yield* statement.lock('wallets', ids.toSorted(), skipLocked)`
const READ_WALLETS = `ids.toSorted().flatMap(id => statement.get('wallets', id) ?? [])`
/** The engine's first lines for a row that a transaction writes. */
const WRITE = '    const changes = session.changes[name]!\n    const written'
const WRITE_WALLET = '() => ({ balance, held, sequence, usage })'

export const PLANTED_BUGS: PlantedBug[] = [
  {
    name: 'no-fence',
    what: 'a record below the stored offset is applied again',
    file: fence,
    replace: [['if (offset < row.nextOffset) {', 'if (offset < 0n) {']],
  },
  {
    name: 'no-gap-check',
    what: 'a record above the stored offset is applied',
    file: fence,
    replace: [['} else if (offset > row.nextOffset) {', '} else if (offset < 0n) {']],
  },
  {
    name: 'gap-goes-on',
    what: 'after a gap the rest of the batch is applied',
    file: fence,
    replace: [
      [
        'if (gaps.has(partition) || held.has(partition) || mismatches.has(partition)) continue',
        'if (mismatches.has(partition)) continue',
      ],
      ['gaps.set(partition, { partition, offset: row.nextOffset })', 'row.nextOffset = offset + 1n'],
    ],
  },
  {
    name: 'offset-stored-before',
    what: 'the offset is stored outside the transaction, before it',
    file: engine,
    replace: [
      [
        WRITE,
        `    if (name === 'partitions' && before) {
      const { nextOffset, lastDigest } = after as unknown as { nextOffset: bigint; lastDigest: Buffer }
      tableOf(name).set(key, { ...before, nextOffset, lastDigest })
    }\n${WRITE}`,
      ],
    ],
  },
  {
    name: 'offset-stored-after',
    what: 'the offset is stored outside the transaction, after it',
    file: engine,
    replace: [
      [
        'for (const [key, { after }] of session.changes[name]!) tableOf(name).set(key, after)',
        `for (const [key, { before, after }] of session.changes[name]!) {
          if (name === 'partitions' && before) {
            const { nextOffset, lastDigest } = before as unknown as { nextOffset: bigint; lastDigest: Buffer }
            tableOf(name).set(key, { ...after, nextOffset, lastDigest })
            scheduler.after(1, null, 'offset stored', () => {
              const now = tableOf(name).get(key)
              const { nextOffset, lastDigest } = after as unknown as { nextOffset: bigint; lastDigest: Buffer }
              tableOf(name).set(key, { ...now!, nextOffset, lastDigest })
            })
          } else tableOf(name).set(key, after)
        }`,
      ],
    ],
  },
  {
    name: 'relay-over-hole-at-start',
    what: 'the relay sends from memory what does not follow on the mark',
    file: relay,
    replace: [['if (lane.offered[0] && lane.offered[0].seq !== expected) lane.behind = true', '']],
  },
  {
    name: 'relay-over-hole-inside',
    what: 'the relay keeps in memory what has a hole inside (found by this simulator)',
    file: relay,
    replace: [['if (last && event.seq !== last.seq + 1n) {', 'if (last && event.seq < 0n) {']],
  },
  {
    name: 'repeat-ahead-of-its-turn',
    what: 'an event is repeated that was not published yet (found by this simulator)',
    file: relay,
    replace: [['({ seq }) => seq <= lane.publishedThrough', '({ seq }) => seq > 0n']],
  },
  {
    name: 'mark-not-raised-again',
    what: 'a mark whose write failed is not written again (found by this simulator)',
    file: relay,
    replace: [
      ['if (publishedThrough < lane.publishedThrough) marks.set(partition, lane.publishedThrough)', ''],
    ],
  },
  {
    name: 'mark-before-acknowledgement',
    what: 'published_through is raised before Kafka has the events',
    file: relay,
    replace: [
      [
        'if (sent.length > 0) {',
        `if (rows.length > 0) {
      marks.set(partition, rows.at(-1)!.seq)
      raise()
    }
    if (sent.length > 0) {`,
      ],
    ],
  },
  {
    name: 'mark-raised-on-failure',
    what: 'a failed send counts as published',
    file: relay,
    replace: [
      [
        '      )\n    }\n    // What was asked for while these were sent',
        '      ).catch(() => {})\n    }\n    // What was asked for while these were sent',
      ],
    ],
  },
  {
    name: 'mark-falls',
    what: 'a late relay lowers published_through',
    file: store,
    replace: [['if (!before || before.publishedThrough >= mark) continue', 'if (!before) continue']],
  },
  {
    name: 'table-not-looked-at',
    what: "a predecessor's late commits are not looked for",
    file: relay,
    replace: [
      ['if (writtenThrough > (lane.offered.at(-1)?.seq ?? lane.publishedThrough)) lane.behind = true', ''],
    ],
  },
  {
    name: 'locks-in-request-order',
    what: 'wallets are locked in the order of the requests',
    file: store,
    replace: [[LOCK_WALLETS, LOCK_WALLETS.replace('.toSorted()', '')]],
  },
  {
    name: 'balances-before-lock',
    what: 'balances are read before the lock',
    file: store,
    replace: [
      [
        LOCK_WALLETS,
        `const rows = ${READ_WALLETS}\n        yield* statement.lock('wallets', ids.toSorted(), skipLocked)`,
      ],
    ],
  },
  {
    name: 'wallets-not-locked',
    what: 'wallets are read and not locked',
    file: store,
    replace: [[LOCK_WALLETS, `const rows = ${READ_WALLETS}`]],
  },
  {
    name: 'zombie-not-fenced',
    what: "the partition's row is not locked: a zombie commits beside its successor",
    file: store,
    replace: [[LOCK_PARTITIONS, `const rows = keys.flatMap(key => statement.get('partitions', key) ?? [])`]],
  },
  {
    name: 'position-read-before-lock',
    what: "the partition's row is read before it is locked",
    file: store,
    replace: [
      [
        LOCK_PARTITIONS,
        `const rows = keys.flatMap(key => statement.get('partitions', key) ?? [])\n          yield* statement.lock('partitions', keys, skipLocked)`,
      ],
    ],
  },
  {
    name: 'duplicate-check-last',
    what: 'whether the id is known is asked after the balance',
    file: applyCommand,
    replace: [
      ['  if (earlier) {', "  if (earlier && command.type !== 'pennywire.ledger.TransferRequested') {"],
      [
        "  const decided = 'code' in outcome ?",
        `  if (earlier && !('code' in outcome)) {
    repeatOrRefuse(state, record, command.type, at, earlier)
    return
  }
  const decided = 'code' in outcome ?`,
      ],
    ],
  },
  {
    name: 'no-duplicate-check',
    what: 'whether the id is known is not asked',
    file: applyCommand,
    replace: [['state.outcomes.get(at.id)', "state.outcomes.get('')"]],
  },
  {
    name: 'command-vanishes',
    what: 'a command is passed over without an event',
    file: applyCommand,
    replace: [
      [
        '  const handler = HANDLERS[command.type]',
        `  if (command.type === 'pennywire.ledger.WalletUnfreezeRequested') return
  const handler = HANDLERS[command.type]`,
      ],
    ],
  },
  {
    name: 'no-fingerprint-check',
    what: 'another content under a known id is taken for its repeat',
    file: applyCommand,
    replace: [
      [
        'if (isOtherRequest(earlier, at.fingerprint)) {',
        'if (isOtherRequest(earlier, earlier.fingerprint)) {',
      ],
    ],
  },
  {
    name: 'outcome-not-written',
    what: 'an outcome is known to the rest of its batch alone',
    file: applyCommand,
    replace: [['  state.writes.commands.push(outcome)\n', '']],
  },
  {
    name: 'violation-blamed-on-record',
    what: 'a unique violation sets the records aside',
    file: applyBatch,
    replace: [
      [
        'if (!deps.store.isRivalry(error) || run === RERUNS) throw error',
        `if (!deps.store.isRivalry(error) || run === RERUNS) throw error
      for (const command of commands) command.command = { type: 'poison', reason: String(error) }`,
      ],
    ],
  },
  {
    name: 'no-digest-check',
    what: 'a topic made anew is taken for the old one',
    file: fence,
    replace: [
      ['&& remembered && !digestOf(command.record).equals(remembered)', '&& remembered && offset < 0n'],
    ],
  },
  {
    name: 'lost-events-unseen',
    what: 'a topic that lost published events is not noticed, and new events are published in front of them',
    file: checkEvents,
    replace: [['} else if (highest < row.publishedThrough && tail.whole) {', '} else if (highest < 0n) {']],
  },
  {
    name: 'republish-leaves-one-out',
    what: 'the journal is published again behind the first event that the topic lacks',
    file: republish,
    replace: [
      [
        'publishedThrough: reached.get(partition) ?? 0n,',
        'publishedThrough: (reached.get(partition) ?? 0n) + 1n,',
      ],
    ],
  },
  {
    name: 'gap-read-again-for-ever',
    what: 'a partition whose next record is deleted is read again for ever, and says nothing',
    file: consume,
    replace: [['if (times < MAX_GAPS) consumer.seek', 'if (times > 0) consumer.seek']],
  },
  {
    name: 'halts-where-all-is-decided',
    what: 'a topic that begins right behind what is decided halts its partition',
    file: consume,
    replace: [['if (nextOffset < first)', 'if (first > 0n && nextOffset <= first)']],
  },
  {
    name: 'refused-by-the-database-held',
    what: 'a record that the database alone refuses holds its partition for ever',
    file: consume,
    replace: [[`if (cause === 'data') waiting = await`, `if (cause === 'locked') waiting = await`]],
  },
  {
    name: 'refused-by-the-database-unanswered',
    what: 'a record that the database alone refuses is set aside, and its id never answered',
    file: consume,
    replace: [
      [
        'return await apply(records, consumer, { reason, answer: true })',
        'return await apply(records, consumer, { reason, answer: false })',
      ],
    ],
  },
  {
    name: 'batch-never-shrinks',
    what: 'a batch that takes too long is tried again as it is',
    file: consume,
    replace: [['batchSize = Math.ceil(part.length / 2)', 'void 0']],
  },
  {
    name: 'rest-goes-on-after-failure',
    what: 'after a failed batch what waits behind it in its partition is sent',
    file: publisher,
    replace: [
      [
        `    const behind = lane.waiting
    lane.sending = []
    lane.waiting = []
`,
        `    const behind: Waiting[] = []
    lane.sending = []
`,
      ],
    ],
  },
  {
    name: 'one-failure-for-all',
    what: 'partitions that share a request fail together',
    file: publisher,
    replace: [
      [
        `          lane.apart = 1
          void sendApart(lane)
`,
        `          giveUp(lane, new Error('the request failed'))
`,
      ],
    ],
  },
  {
    name: 'second-half-to-the-end',
    what: 'the second half of a batch that is too large goes behind what waits',
    file: publisher,
    replace: [
      [
        'lane.waiting.unshift(...lane.sending.splice(lane.most))',
        'lane.waiting.push(...lane.sending.splice(lane.most))',
      ],
    ],
  },
  {
    name: 'behind-not-looked-for',
    what: 'a database that is behind its own events is gone on with',
    file: checkEvents,
    replace: [
      ['if (highest >= nextSeq) {', 'if (highest < 0n) {'],
      [
        'const other = await findOther(deps.store, row.partition, tail, highest)',
        'const other = undefined as bigint | undefined',
      ],
    ],
  },
  {
    name: 'behind-not-looked-for-again',
    what: 'a database server that comes while a ledger is idle is not compared with the events',
    file: applyBatch,
    replace: [['if (server !== comparedServer)', 'if (server === undefined)']],
  },
  {
    name: 'behind-by-the-last-record',
    what: 'the last record of ledger.events is taken for its newest event',
    file: checkEvents,
    replace: [
      [
        'const highest = tail.events.reduce((most, { seq }) => (seq > most ? seq : most), 0n)',
        'const highest = tail.events.at(-1)?.seq ?? 0n',
      ],
    ],
  },
  {
    name: 'catch-up-leaves-holds-open',
    what: 'catch-up does not end the holds that events end',
    file: catchUpBooks,
    replace: [['    holdEnds.push(...added.holdEnds)\n', '']],
  },
  {
    name: 'catch-up-reads-on-too-early',
    what: 'after catch-up the last decided command is the next one',
    file: catchUpBooks,
    replace: [['nextOffset: offset + 1n, isKnown: true', 'nextOffset: offset, isKnown: true']],
  },
  {
    name: 'catch-up-reads-on-too-late',
    what: 'after catch-up a command that no event answers is skipped',
    file: catchUpBooks,
    replace: [['nextOffset: offset + 1n, isKnown: true', 'nextOffset: offset + 2n, isKnown: true']],
  },
  {
    name: 'catch-up-last-read-wins',
    what: 'of the entries of a wallet the one read last counts, not the greatest',
    file: replayEvents,
    replace: [['      if (sequence <= wallet.sequence) continue\n', '']],
  },
  {
    name: 'catch-up-counts-no-limits',
    what: 'what events send does not count against the limits',
    file: replayEvents,
    replace: [[`} else if (value.type === 'transfer') {`, `} else if (value.type === 'nothing') {`]],
  },
  {
    name: 'catch-up-gives-nothing-back',
    what: 'a hold that ends by an event gives nothing back to the limits',
    file: replayEvents,
    replace: [['countedMs: hold.placedMs }', 'countedMs: 0 }']],
  },
  {
    name: 'catch-up-keeps-freezes',
    what: 'the first change of a wallet stands, not the last',
    file: replayEvents,
    replace: [['if (isLater(at, wallet.status?.at ?? null))', 'if (wallet.status === null)']],
  },
  {
    name: 'catch-up-inherits-nothing',
    what: "a user's next wallet begins with unused limits",
    file: replayEvents,
    replace: [
      ['usage: before ? inheritUsage(before.usage, wallet.usage) : wallet.usage', 'usage: wallet.usage'],
    ],
  },
  {
    name: 'catch-up-forgets-limits',
    what: 'limits that events change are not written',
    file: writeReplayed,
    replace: [['isNew.has(id) ? [] : limits.map(', 'isNew.has(id) || limits.length > 0 ? [] : limits.map(']],
  },
  {
    name: 'capture-answers-the-hold',
    what: "by its event a capture has the hold's id as its outcome, not its command's",
    file: eventRows,
    replace: [
      [
        'return commandId === null ? known(transferId, fingerprint) : known(commandId, commandFingerprint)',
        'return known(transferId, commandId === null ? fingerprint : commandFingerprint)',
      ],
    ],
  },
  {
    name: 'going-back-not-seen',
    what: 'a running ledger does not see its database go back',
    file: fence,
    replace: [
      [
        'if (row && (row.nextOffset < nextOffset || row.nextSeq < nextSeq)) {',
        'if (row && nextOffset < 0n && nextSeq < 0n) {',
      ],
    ],
  },
  {
    name: 'lost-commit-not-seen',
    what: 'a ledger knows of its partitions only what it was answered, not what it reads',
    file: consume,
    replace: [
      [
        'for (const [partition, position] of result.seen) known.set(partition, position)',
        'for (const [partition, position] of result.seen) if (result.decided.has(partition)) known.set(partition, position)',
      ],
    ],
  },
  {
    name: 'repeat-gets-new-event',
    what: 'a repeated command is answered by a new event',
    file: applyCommand,
    replace: [
      [
        'state.repeated.push(earlier)',
        "append(state, record, commandRefused(name)(state, null, at, { code: 'DUPLICATE', detail: 'It was decided before.' }))",
      ],
    ],
  },
  {
    name: 'journal-outside',
    what: 'events are journalled outside the transaction',
    file: engine,
    replace: [[WRITE, `    if (name === 'journal') return void tableOf(name).set(key, after)\n${WRITE}`]],
  },
  {
    name: 'balances-outside',
    what: 'balances are written outside the transaction',
    file: engine,
    replace: [
      [WRITE, `    if (name === 'wallets' && before) return void tableOf(name).set(key, after)\n${WRITE}`],
    ],
  },
  {
    name: 'seek-forgotten',
    what: 'after a gap nobody reads again',
    file: consume,
    replace: [["consumer.seek({ topic: 'ledger.commands', partition, offset })", 'void [partition, offset]']],
  },
  {
    name: 'stranger-not-halted',
    what: 'a topic shorter than what was decided of it is read on',
    file: consume,
    replace: [['if (nextOffset > end)', 'if (nextOffset < 0n && end < 0n)']],
  },
  {
    name: 'ends-asked-first',
    what: "a topic's ends are asked before the stored positions: a predecessor that commits between is taken for a loss",
    file: consume,
    replace: [
      [
        'const all = await compareServer(consumer, partitions, new Map(known))',
        // A second passes, as if Postgres were slow.
        'const early = await readEnds()\n      for (let n = 0; n < 300; n++) await store.readServer()\n      const all = await compareServer(consumer, partitions, new Map(known))',
      ],
      ['const ends = await readEnds()', 'const ends = early'],
    ],
  },
  {
    name: 'relay-not-assigned',
    what: 'the relay is not told of its partitions',
    file: consume,
    replace: [
      [
        '      relay.assign(mine.filter(partition => !halted.has(partition)))\n    },\n    /**',
        '    },\n    /**',
      ],
    ],
  },
  {
    name: 'set-aside-not-awaited',
    what: 'a record is set aside without waiting for Kafka',
    file: applyBatch,
    replace: [
      [
        'await deps.setAside(record, error instanceof Error ? error.message : String(error))',
        'void deps.setAside(record, String(error)).catch(() => {})',
      ],
    ],
  },
  {
    name: 'poison-unanswered',
    what: 'a transfer that cannot be decided gets no outcome',
    file: applyBatch,
    replace: [
      [
        "if (command.type !== 'poison') applyCommand(state",
        "if (command.type !== 'poison' && command.value.userId === '') applyCommand(state",
      ],
    ],
  },
  {
    name: 'deposit-refused',
    what: 'a confirmed deposit is refused when its id is taken',
    file: transferCommands,
    replace: [["type === 'deposit' ? outcomes.get(transferId)", "type === '' ? outcomes.get(transferId)"]],
  },
  {
    name: 'deposit-displaced-anew',
    what: 'each repeat of a displaced deposit is booked once more',
    file: transferCommands,
    replace: [['ids: [transferId, displacedDepositIdOf(transferId)]', 'ids: [transferId]']],
  },
  {
    name: 'full-wallet-not-succeeded',
    what: 'a full system wallet is not succeeded, and its balance passes its bound',
    file: systemWallets,
    replace: [['if (after <= bound && after >= -bound) return', 'return']],
  },
  {
    name: 'full-in-one-direction',
    what: 'a system wallet of the outside world counts as full only where it has taken too much',
    file: systemWallets,
    replace: [['after <= bound && after >= -bound', 'after <= bound']],
  },
  {
    name: 'successor-too-early',
    what: 'a system wallet that has room is succeeded',
    file: systemWallets,
    replace: [['after >= -bound', 'after >= -bound && wallet.sequence < 12']],
  },
  {
    name: 'successor-not-locked',
    what: 'a command that needs the successor of a full system wallet is set aside',
    file: applyBatch,
    replace: [
      [
        'if (error instanceof MissingSystemWallet) return error.wallet',
        'if (state.counts.completed < 0) return',
      ],
    ],
  },
  {
    name: 'overdraft',
    what: 'more is spent than there is',
    file: decide,
    replace: [
      [
        `wallet.balance - wallet.held < amount
`,
        `wallet.balance - wallet.held < amount / 2n
`,
      ],
      [
        'if (wallet.userId !== null && balance - heldAfter(wallet) < 0n)',
        'if (wallet.userId !== null && heldAfter(wallet) < 0n)',
      ],
    ],
  },
  {
    name: 'frozen-pays',
    what: 'a frozen wallet pays',
    file: decide,
    replace: [["if (sender.status === 'frozen') return", "if (sender.id === '') return"]],
  },
  {
    name: 'status-read-before-lock',
    what: "a wallet's status is read before the lock",
    file: store,
    replace: [
      [
        LOCK_WALLETS,
        `const early = new Map(${READ_WALLETS}.map(row => [row.id, row]))
        const locked = yield* statement.lock('wallets', ids.toSorted(), skipLocked)
        const rows = locked.map(row => {
          const { status, freezeSource } = early.get(row.id)!
          return { ...row, status, freezeSource }
        })`,
      ],
    ],
  },
  {
    name: 'deposit-to-frozen',
    what: 'a deposit enters a wallet that staff froze',
    file: decide,
    replace: [['    canReceive(recipient) &&\n', '']],
  },
  {
    name: 'expired-moves',
    what: 'a request moves money after it has expired',
    file: decide,
    replace: [
      [
        `request.expiresAt !== null && nowMs > request.expiresAt
`,
        `request.expiresAt !== null && nowMs > request.expiresAt + 1_000
`,
      ],
    ],
  },
  {
    name: 'waiter-woken-for-another',
    what: "a waiter is woken by another request's refusal",
    file: awaitOutcome,
    replace: [['outcome.value.fingerprint.equals(fingerprint)\n', 'outcome.value.fingerprint.length > 0\n']],
  },
  {
    name: 'answer-from-another',
    what: 'the answer is taken from an event with another fingerprint',
    file: requestTransfer,
    replace: [
      [
        `if (!('fingerprint' in outcome.value) || !outcome.value.fingerprint.equals(request.fingerprint)) {`,
        'if (!outcome.value) {',
      ],
    ],
  },
  {
    name: 'command-answered-by-another',
    what: "another command's outcome under the same id is taken for this one's (found by this simulator)",
    file: askLedger,
    replace: [['if (!decided || isOther(decided, fingerprint)) throw keyReused()', 'void decided']],
  },
  {
    name: 'replay-for-another',
    what: 'a finished transfer is answered to a request with other content',
    file: requestTransfer,
    replace: [['if (!fingerprint || !facts.fingerprint.equals(fingerprint)) throw keyReused()\n', '']],
  },
  {
    name: 'pending-not-written',
    what: '202 and 503 are answered before the request is written down',
    file: requestTransfer,
    replace: [['await deps.writePending({', 'void (deps.writePending, async (_: unknown) => {})({']],
  },
  {
    name: 'unacknowledged-202',
    what: '202 is answered though Kafka has not acknowledged',
    file: requestTransfer,
    replace: [['  if (!acknowledged) {\n', '  if (!acknowledged && request.amountMinor < 0n) {\n']],
  },
  {
    name: 'pending-called-done',
    what: '201 is answered to what is not decided',
    file: requestTransfer,
    replace: [
      [
        'return { status: 202, transfer, replayed: false }',
        'return { status: 201, transfer, replayed: false }',
      ],
    ],
  },
  {
    name: 'callback-not-published',
    what: 'a confirmed deposit is called done though Kafka has not acknowledged it',
    file: payOut,
    replace: [
      [
        'return booked ? finish(deps, payment, booked.inSuspense) : book(deps, payment)',
        'return booked ? finish(deps, payment, booked.inSuspense) : book(deps, payment).catch(() => {}).then(() => finish(deps, payment, false))',
      ],
    ],
  },
  {
    name: 'payout-before-hold',
    what: 'a payout is ordered before its money is held',
    file: payOut,
    replace: [
      [
        'else if (own.hold) await orderPayment(deps, payment)',
        'else if (own.hold || !ledgerStatus) await orderPayment(deps, payment)',
      ],
      ["if (hold?.status !== 'active') {", "if (hold && hold.status !== 'active') {"],
    ],
  },
  {
    name: 'payout-of-voided-hold',
    what: 'a payout is ordered whose hold has ended',
    file: payOut,
    replace: [["if (hold?.status !== 'active') {", 'if (!hold) {']],
  },
  {
    name: 'second-refusal-believed',
    what: 'the refusal of a repeated order is taken for the outcome of the first',
    file: payOut,
    replace: [
      [
        `      if (state) return applyProviderState(deps, payment, state)
      // Ordered a second`,
        '      // Ordered a second',
      ],
      [
        'return payment.orderAttempts > 1 && mayArrive(deps, payment) ? undefined : orderPayment(deps, payment)',
        'return state === null ? undefined : orderPayment(deps, payment)',
      ],
      [
        '  if (state) return applyProviderState(deps, payment, state, traceparent)\n  if (arrivesLater) return\n',
        '  void [state, arrivesLater, traceparent]\n',
      ],
    ],
  },
  {
    name: 'payout-failed-kept',
    what: 'the money of a failed payout is not let go',
    file: payOut,
    replace: [
      [
        `return own.hold?.status === 'active' ? book(deps, payment) : finish(deps, payment, false)`,
        'return finish(deps, payment, false)',
      ],
      [
        'if (settled.status === status && !settled.done) await book(deps, settled, traceparent)',
        `if (settled.status === status && !settled.done && status !== 'failed') await book(deps, settled, traceparent)`,
      ],
    ],
  },
  {
    name: 'hold-ended-twice',
    what: 'whether a hold has ended is not asked',
    file: decide,
    replace: [[`if (hold.status !== 'active') {`, 'if (hold.amount < 0n) {']],
  },
  {
    name: 'capture-above-hold',
    what: 'more is captured than is held',
    file: decide,
    replace: [['if (amount > hold.amount) {', 'if (amount > 2n * hold.amount) {']],
  },
  {
    name: 'capture-keeps-the-rest',
    what: 'what is not captured stays held',
    file: decide,
    replace: [
      [
        `held: { wallet: payer, amount: -hold.amount },
    counted: {
      wallet: payer,`,
        `held: { wallet: payer, amount: -amount },
    counted: {
      wallet: payer,`,
      ],
    ],
  },
  {
    name: 'capture-too-late',
    what: 'a hold is captured after its time',
    file: decide,
    replace: [
      [
        'hold.untilMs !== null && nowMs > hold.untilMs) {',
        'hold.untilMs !== null && nowMs > hold.untilMs + 5_000) {',
      ],
    ],
  },
  {
    name: 'payer-captures',
    what: 'a hold is captured by anybody',
    file: decide,
    replace: [
      [
        `hold: source => source === 'user' && command.userId === recipient?.userId,`,
        `hold: source => source === 'user',`,
      ],
    ],
  },
  {
    name: 'payer-lets-go',
    what: 'a hold is let go by its payer',
    file: decide,
    replace: [
      [
        `source === 'staff' || source === 'timer' || (source === 'user' && command.userId === recipient?.userId),`,
        `source === 'staff' || source === 'timer' || source === 'user',`,
      ],
    ],
  },
  {
    name: 'timer-before-time',
    what: 'the timer lets a hold go before its time',
    file: decide,
    replace: [
      [
        `if (command.source === 'timer' && (hold.untilMs === null || nowMs <= hold.untilMs)) {`,
        `if (command.source === '') {`,
      ],
    ],
  },
  {
    name: 'payout-without-provider',
    what: 'a withdrawal is captured without the provider',
    file: decide,
    replace: [
      [
        `command.userId === recipient?.userId,
    withdrawal: source => source === 'provider',
  })
  if ('outcome' in hold) return hold
  // What`,
        `command.userId === recipient?.userId,
    withdrawal: () => true,
  })
  if ('outcome' in hold) return hold
  // What`,
      ],
    ],
  },
  {
    name: 'held-is-available',
    what: 'what is held is paid once more',
    file: decide,
    replace: [
      [
        `wallet.balance - wallet.held < amount
`,
        `wallet.balance < amount
`,
      ],
    ],
  },
  {
    name: 'holds-read-before-lock',
    what: 'holds are read before the wallets are locked',
    file: applyBatch,
    replace: [
      [
        '  const [partitionRows, walletRows, earlierRows, limitRows, holdRows, originalRows, usersWallets, now] =',
        `  const holdRows = await tx.readHolds(reads.holds)
  const [partitionRows, walletRows, earlierRows, limitRows, late, originalRows, usersWallets, now] =`,
      ],
    ],
  },
  {
    name: 'hold-end-outside',
    what: 'the end of a hold is written outside the transaction',
    file: engine,
    replace: [
      [WRITE, `    if (name === 'holds' && before) return void tableOf(name).set(key, after)\n${WRITE}`],
    ],
  },
  {
    name: 'timer-asleep',
    what: 'nobody lets holds go in time',
    file: 'services/gateway/src/holds/expire-holds.ts',
    replace: [['await Promise.all(page.filter(({ id }) => !told.has(id)).map(voidHold))', 'void voidHold']],
  },
  {
    name: 'reversal-sum-unchecked',
    what: 'a transfer is given back more than once',
    file: decide,
    replace: [['if (original.reversed + amount > original.amount) {', 'if (amount > original.amount) {']],
  },
  {
    name: 'reversals-read-before-lock',
    what: 'what was given back is read before the lock',
    file: applyBatch,
    replace: [
      [
        '  const [partitionRows, walletRows, earlierRows, limitRows, holdRows, originalRows, usersWallets, now] =',
        `  const originalRows = await tx.readOriginals(reads.originals)
  const [partitionRows, walletRows, earlierRows, limitRows, holdRows, late, usersWallets, now] =`,
      ],
    ],
  },
  {
    name: 'reversal-forgotten-in-batch',
    what: 'two reversals in one batch do not see each other',
    file: recordEvent,
    replace: [['    original.reversed = value.reversedMinor\n', '    void original\n']],
  },
  {
    name: 'reversal-not-kept',
    what: 'a reversal is not written down',
    file: recordEvent,
    replace: [['    state.writes.reversals.push(reversal)\n', '    void reversal\n']],
  },
  {
    name: 'reversal-below-zero',
    what: 'a recipient who has spent the money is taken below zero',
    file: decide,
    replace: [
      [
        `    const refusal = notAvailable(payer, amount)
    if (refusal) return refusal
  }
  const fits`,
        `  }
  const fits`,
      ],
      ['if (wallet.userId !== null && balance - heldAfter(wallet) < 0n)', `if (wallet.userId === '')`],
    ],
  },
  {
    name: 'reversal-by-anyone',
    what: 'a withdrawal is given back by staff',
    file: decide,
    replace: [[`staff: ['transfer', 'deposit'],`, `staff: ['transfer', 'deposit', 'withdrawal'],`]],
  },
  {
    name: 'usage-not-written',
    what: 'what is used of the limits is not written',
    file: store,
    replace: [[WRITE_WALLET, 'row => ({ balance, held, sequence, usage: usage && row.usage })']],
  },
  {
    name: 'usage-outside',
    what: 'what is used of the limits is written outside the transaction',
    file: engine,
    replace: [
      [
        WRITE,
        `    if (name === 'wallets' && before) {
      const { usage } = after as unknown as { usage: never }
      tableOf(name).set(key, { ...before, usage })
    }\n${WRITE}`,
      ],
    ],
  },
  {
    name: 'usage-not-counted',
    what: 'a hold is not counted against the limits',
    file: decide,
    replace: [
      [
        `held: { wallet: parties.sender, amount },
    counted: { wallet: parties.sender, action: 'send', amount },`,
        'held: { wallet: parties.sender, amount },',
      ],
    ],
  },
  {
    name: 'limits-before-are-those-after',
    what: 'a changed limit tells the new one as the old one',
    file: limitCommands,
    replace: [['previousDailyMinor: before?.daily ?? null', 'previousDailyMinor: limits?.daily ?? null']],
  },
  {
    name: 'kept-limits-are-dropped',
    what: 'a change of one limit takes the others away',
    file: walletRules,
    replace: [['...requested, ...kept }', '...requested }']],
  },
  {
    name: 'kept-limits-of-the-other-source',
    what: "a change of staff's keeps the owner's limits, and the other way round",
    file: walletRules,
    replace: [['own.action === action && own.source === source)', 'own.action === action)']],
  },
  {
    name: 'freeze-before-is-forgotten',
    what: 'a freeze over another one does not tell it',
    file: walletCommands,
    replace: [
      [
        ' frozenAt: state.now.getTime(),\n        previousSource: wallet!.freezeSource',
        ' frozenAt: state.now.getTime(),\n        previousSource: null',
      ],
    ],
  },
  {
    name: 'day-by-the-clock-alone',
    what: 'a clock that steps back begins an earlier day, of which nothing is used',
    file: limits,
    replace: [
      [
        'const todayOf = (usage: Usage, nowMs: number) => Math.max(dayOf(nowMs), usage.day)',
        'const todayOf = (_usage: Usage, nowMs: number) => dayOf(nowMs)',
      ],
    ],
  },
  {
    name: 'day-without-end',
    what: 'what is used of a day counts on after midnight',
    file: limits,
    replace: [['day: usage.day === today ? day : 0n', 'day']],
  },
  {
    name: 'month-without-end',
    what: 'what is used of a month counts on after its end',
    file: limits,
    replace: [['month: sameMonth(usage.day, today) ? month : 0n', 'month']],
  },
  {
    name: 'month-ends-at-midnight',
    what: 'what is used of a month is forgotten at midnight',
    file: limits,
    replace: [['month: sameMonth(usage.day, today) ? month : 0n', 'month: usage.day === today ? month : 0n']],
  },
  {
    name: 'usage-given-back-twice',
    what: 'what a hold did not use is given back twice',
    file: limits,
    replace: [['used > amount ? used - amount : 0n', 'used > 2n * amount ? used - 2n * amount : 0n']],
  },
  {
    name: 'usage-not-given-back',
    what: 'what a hold did not use stays used',
    file: limits,
    replace: [['used > amount ? used - amount : 0n', 'used']],
  },
  {
    name: 'limits-after-balance',
    what: 'the limits are asked after the balance',
    file: decide,
    replace: [
      [
        `overLimit(sender, 'send', amount, circumstances) ?? notAvailable(sender, amount)`,
        `notAvailable(sender, amount) ?? overLimit(sender, 'send', amount, circumstances)`,
      ],
    ],
  },
  {
    name: 'limits-read-before-lock',
    what: 'own limits are read before the lock',
    file: applyBatch,
    replace: [
      [
        '  const [partitionRows, walletRows, earlierRows, limitRows, holdRows, originalRows, usersWallets, now] =',
        `  const limitRows = await tx.readLimits(reads.limited)
  const [partitionRows, walletRows, earlierRows, late, holdRows, originalRows, usersWallets, now] =`,
      ],
    ],
  },
  {
    name: 'own-limit-raised',
    what: 'a user raises the limits that staff set',
    file: walletRules,
    replace: [[`if (source === 'self') {`, `if (source === '') {`]],
  },
  {
    name: 'linked-not-written',
    what: 'what came with a transfer is told and moves balances, and has no row',
    file: eventRows,
    replace: [['of [event, ...linked].entries()', 'of [event, ...linked].slice(0, 1).entries()']],
  },
  {
    name: 'linked-not-told',
    what: 'an event does not tell which of its entries came with its transfer',
    file: transferEvents,
    replace: [['  linked.map(({ type }, index) => (', '  linked.slice(1).map(({ type }, index) => (']],
  },
  {
    name: 'linked-entries-not-told',
    what: 'an event tells the entries of its transfer alone',
    file: transferEvents,
    replace: [['return movements.flatMap(', 'return movements.slice(0, 1).flatMap(']],
  },
  {
    name: 'linked-entry-before-the-last',
    what: 'two entries of a wallet in one event both go on where it was before',
    file: transferEvents,
    replace: [['after.get(wallet) ?? wallet', '{ ...after.get(wallet), ...wallet }']],
  },
  {
    name: 'linked-wallet-not-written',
    what: 'a wallet that only a linked movement touches keeps its balance',
    file: recordEvent,
    replace: [
      [
        '...movements.flatMap(({ postings }) => postings),',
        '...movements.slice(0, 1).flatMap(({ postings }) => postings),',
      ],
    ],
  },
  {
    name: 'linked-not-posted',
    what: 'within a batch the next decision does not see what a linked movement took',
    file: decide,
    replace: [
      [
        'of movements.flatMap(({ postings }) => postings)) {',
        'of movements.slice(0, 1).flatMap(({ postings }) => postings)) {',
      ],
    ],
  },
  {
    name: 'linked-to-nothing',
    what: 'a linked transfer does not say to which it belongs',
    file: eventRows,
    replace: [['linkedTo: own.id,', 'linkedTo: null,']],
  },
  {
    name: 'linked-share-an-id',
    what: 'all that comes with a transfer has one id',
    file: 'packages/contracts/src/ids.ts',
    replace: [
      ["deriveId('linked', transferId, String(n))", "deriveId('linked', transferId, String(n && 1))"],
    ],
  },
  {
    name: 'rejection-forgets-its-original',
    what: 'the event of a refused reversal does not tell what was to be given back',
    file: transferEvents,
    replace: [
      [
        '    metadata: details.metadata,\n    originalId,',
        '    metadata: details.metadata,\n    originalId: originalId && null,',
      ],
    ],
  },
  {
    name: 'rejection-names-another',
    what: 'the event of a refused transfer names its sender as its recipient',
    file: transferEvents,
    replace: [
      [
        "toUserId: state.wallets.get(details.toWalletId ?? '')?.userId ?? null",
        "toUserId: state.wallets.get(details.fromWalletId ?? '')?.userId ?? null",
      ],
    ],
  },
  {
    name: 'reopened-forgets-usage',
    what: 'a wallet that is opened after a closed one begins the day anew',
    file: walletCommands,
    replace: [['usage: last?.usage ?? NOTHING_USED', 'usage: NOTHING_USED']],
  },
  {
    name: 'reopened-by-the-clock',
    what: 'a wallet that is opened after closed ones goes on with the one that was opened last by the clock',
    file: walletCommands,
    replace: [['before.find(({ id }) => id === lastId) ?? before.at(-1)', 'before.at(lastId ? -1 : 0)']],
  },
  {
    name: 'reopened-forgets-limits',
    what: 'a wallet that is opened after a closed one has not its limits',
    file: walletCommands,
    replace: [
      ['.filter(limits => limits.walletId === last?.id)', `.filter(limits => limits.walletId === '')`],
    ],
  },
  {
    name: 'frozen-pays-out',
    what: 'a frozen wallet pays out',
    file: decide,
    replace: [[`unusable(wallet, 'walletId') ??`, 'undefined ??']],
  },
  {
    name: 'close-with-balance',
    what: 'a wallet is closed with money in it',
    file: walletRules,
    replace: [['if (wallet!.balance !== 0n) {', 'if (wallet!.balance < 0n) {']],
  },
  {
    name: 'unfreeze-by-another',
    what: 'a freeze is lifted by another than set it',
    file: walletRules,
    replace: [
      [
        `if (command.source !== 'staff' && command.source !== wallet!.freezeSource) {`,
        `if (command.source === '') {`,
      ],
    ],
  },
  {
    name: 'freeze-taken-over',
    what: 'a weaker freeze takes over a stronger one',
    file: walletRules,
    replace: [['SOURCES.indexOf(now) >= SOURCES.indexOf(source)', 'now === source']],
  },
  {
    name: 'status-not-in-batch',
    what: 'a freeze is not seen by the rest of its batch',
    file: recordEvent,
    replace: [
      [
        `  wallet.status = change.status
`,
        '',
      ],
    ],
  },
  {
    name: 'two-open-wallets',
    what: 'whether a user has an open wallet is not asked',
    file: walletRules,
    replace: [
      [
        `  userHasOneOpen
    ?`,
        `  userHasOneOpen && request.userId === ''
    ?`,
      ],
    ],
  },
  {
    name: 'macs-not-checked',
    what: 'the ledger takes what no gateway has signed',
    file: 'services/ledger/src/consume-commands.ts',
    replace: [['? undefined : verifyCommand(record)', '? undefined : void verifyCommand(record)']],
  },
  {
    name: 'reversal-not-written-down',
    what: 'a reversal is answered 202 and not written down',
    file: 'services/gateway/src/reversals/request-reversal.ts',
    replace: [['  await deps.writePending({', '  void ({']],
  },
  {
    name: 'deposit-answered-unbooked',
    what: 'a deposit is answered 201 before the ledger has booked it',
    file: 'services/gateway/src/payments/request-deposit.ts',
    replace: [
      [
        'return { status: 202, transfer, replayed: false }',
        'return { status: 201, transfer, replayed: false }',
      ],
    ],
  },
  {
    name: 'withdrawal-answered-unbooked',
    what: 'a withdrawal is answered 201 before the ledger has booked it',
    file: 'services/gateway/src/payments/request-withdrawal.ts',
    replace: [
      [
        'return { status: 202, transfer, replayed: false }',
        'return { status: 201, transfer, replayed: false }',
      ],
    ],
  },
  {
    name: 'label-of-another-rename',
    what: 'of two names in one batch the first is written',
    file: recordEvent,
    replace: [
      [
        'writes.labels = [...writes.labels.filter(row => row.id !== id), { id, label }]',
        'if (!writes.labels.some(row => row.id === id)) writes.labels.push({ id, label })',
      ],
    ],
  },
  {
    name: 'anybody-renames',
    what: 'whose wallet is renamed is not asked',
    file: walletRules,
    replace: [
      [
        `  command: WalletRenameRequested,
  wallet: Wallet | undefined,
): { outcome: 'renamed' } | Refused => {
  const nobodys = missing(command, wallet)`,
        `  command: WalletRenameRequested,
  wallet: Wallet | undefined,
): { outcome: 'renamed' } | Refused => {
  const nobodys = missing({ ...command, userId: wallet?.userId ?? '' }, wallet)`,
      ],
    ],
  },
]
