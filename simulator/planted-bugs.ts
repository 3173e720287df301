/**
 * Bugs that the simulation must find. Each is a change of the source text as it is loaded: the services know nothing of
 * it, and a text that no longer stands there exactly once fails loudly (plant.ts).
 */
export type PlantedBug = {
  name: string
  /** What is wrong then, for the table. */
  what: string
  file: string
  replace: Array<[from: string, to: string]>
}

const applyBatch = 'services/ledger/src/apply-batch.ts'
const relay = 'services/ledger/src/relay-outbox.ts'
const consume = 'services/ledger/src/consume-commands.ts'
const decide = 'services/ledger/src/decide.ts'
const requestTransfer = 'services/gateway/src/request-transfer.ts'
const awaitOutcome = 'services/gateway/src/await-outcome.ts'
const callback = 'services/gateway/src/request-deposit.ts'
/** Where the bug would be in SQL, it is planted in what stands for it. */
const store = 'simulator/memory-store.ts'

const LOCK_PARTITION = `yield* lockRow(session, \`partition \${partition}\`)`
const LOCK_WALLET = `      yield* lockRow(session, \`wallet \${id}\`)
      rows.push(lockedWallet(walletSeenBy(session, id)!))`
const OUTSIDE = (row: string) => `Object.assign(tables.partitions.get(${row}.partition)!, {
        nextOffset: ${row}.nextOffset,
        lastDigest: ${row}.lastDigest,
      })`

export const PLANTED_BUGS: PlantedBug[] = [
  {
    name: 'no-fence',
    what: 'a record below the stored offset is applied again',
    file: applyBatch,
    replace: [['if (offset < row.nextOffset) {', 'if (offset < 0n) {']],
  },
  {
    name: 'no-gap-check',
    what: 'a record above the stored offset is applied',
    file: applyBatch,
    replace: [['} else if (offset > row.nextOffset) {', '} else if (offset < 0n) {']],
  },
  {
    name: 'gap-goes-on',
    what: 'after a gap the rest of the batch is applied',
    file: applyBatch,
    replace: [
      [
        'if (gaps.has(partition) || strangers.has(partition)) continue',
        'if (strangers.has(partition)) continue',
      ],
      ['gaps.set(partition, { partition, offset: row.nextOffset })', 'row.nextOffset = offset + 1n'],
    ],
  },
  {
    name: 'offset-stored-before',
    what: 'the offset is stored outside the transaction, before it',
    file: store,
    replace: [
      [
        'session.changes.partitions.push({ ...row })',
        `${OUTSIDE('row')}\n      session.changes.partitions.push({ ...row })`,
      ],
    ],
  },
  {
    name: 'offset-stored-after',
    what: 'the offset is stored outside the transaction, after it',
    file: store,
    replace: [
      [
        'for (const row of changes.partitions) Object.assign(tables.partitions.get(row.partition)!, row)',
        `for (const row of changes.partitions) {
      tables.partitions.get(row.partition)!.nextSeq = row.nextSeq
      scheduler.after(1, null, 'offset stored', () => {
        ${OUTSIDE('row')}
      })
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
    replace: [['seq <= (lanes.get(partition)?.publishedThrough ?? 0n)', 'partition >= 0 && seq > 0n']],
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
        'await publisher.publishAll(',
        `for (const { partition, rows } of round) marks.set(partition, rows.at(-1)!.seq)
    raise()
    await publisher.publishAll(`,
      ],
    ],
  },
  {
    name: 'mark-raised-on-failure',
    what: 'a failed send counts as published',
    file: relay,
    replace: [
      [
        '    // What was asked for while these were sent',
        '    .catch(() => {})\n    // What was asked for while these were sent',
      ],
    ],
  },
  {
    name: 'mark-falls',
    what: 'a late relay lowers published_through',
    file: store,
    replace: [['if (before === undefined || before >= mark) continue', 'if (before === undefined) continue']],
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
    replace: [['    seen.sort()\n', '']],
  },
  {
    name: 'balances-before-lock',
    what: 'balances are read before the lock',
    file: store,
    replace: [
      [
        LOCK_WALLET,
        `      const early = lockedWallet(walletSeenBy(session, id)!)
      yield* lockRow(session, \`wallet \${id}\`)
      rows.push(early)`,
      ],
    ],
  },
  {
    name: 'wallets-not-locked',
    what: 'wallets are read and not locked',
    file: store,
    replace: [[LOCK_WALLET, '      rows.push(lockedWallet(walletSeenBy(session, id)!))']],
  },
  {
    name: 'zombie-not-fenced',
    what: "the partition's row is not locked: a zombie commits beside its successor",
    file: store,
    replace: [[`      ${LOCK_PARTITION}`, '']],
  },
  {
    name: 'position-read-before-lock',
    what: "the partition's row is read before it is locked",
    file: store,
    replace: [
      [
        `      ${LOCK_PARTITION}
      const { nextOffset, lastDigest, nextSeq } = tables.partitions.get(partition)!`,
        `      const { nextOffset, lastDigest, nextSeq } = tables.partitions.get(partition)!
      ${LOCK_PARTITION}`,
      ],
    ],
  },
  {
    name: 'duplicate-check-last',
    what: 'whether the id is known is asked after the balance',
    file: applyBatch,
    replace: [
      ["if (settledBefore(record, { id: transferId, type: 'TransferRequested', fingerprint })) return\n", ''],
      [
        "if (decision.outcome === 'rejected') return reject(record, request, decision.code, decision.detail)",
        `if (decision.outcome === 'rejected') return reject(record, request, decision.code, decision.detail)
    if (settledBefore(record, { id: transferId, type: 'TransferRequested', fingerprint })) return`,
      ],
    ],
  },
  {
    name: 'no-duplicate-check',
    what: 'whether the id is known is not asked',
    file: applyBatch,
    replace: [['const first = earlier.get(command.id)\n', "const first = earlier.get('')\n"]],
  },
  {
    name: 'no-fingerprint-check',
    what: 'another content under a known id is taken for its repeat',
    file: applyBatch,
    replace: [
      ['if (first.fingerprint.equals(command.fingerprint)) {', 'if (first.fingerprint.length > 0) {'],
    ],
  },
  {
    name: 'batch-forgets-its-own',
    what: 'the same id twice in one batch is not seen',
    file: applyBatch,
    replace: [
      [
        `earlier.set(transferId, { id: transferId, fingerprint, partition: record.partition, seq })
    counts.completed++`,
        'counts.completed++',
      ],
    ],
  },
  {
    name: 'violation-blamed-on-record',
    what: 'a unique violation sets the records aside',
    file: applyBatch,
    replace: [
      [
        'if (!parts.store.isRivalry(error) || run === RERUNS) throw error',
        `if (!parts.store.isRivalry(error) || run === RERUNS) throw error
      for (const command of commands) command.asked = { type: 'poison', reason: String(error) }`,
      ],
    ],
  },
  {
    name: 'no-digest-check',
    what: 'a topic made anew is taken for the old one',
    file: applyBatch,
    replace: [
      ['&& remembered && !digestOf(command.record).equals(remembered)', '&& remembered && offset < 0n'],
    ],
  },
  {
    name: 'repeat-gets-new-event',
    what: 'a repeated command is answered by a new event',
    file: applyBatch,
    replace: [['repeated.push(first)\n', "refuse(record, command, 'DUPLICATE', 'It was decided before.')\n"]],
  },
  {
    name: 'journal-outside',
    what: 'events are journalled outside the transaction',
    file: store,
    replace: [
      [
        'session.changes.journal.push(...journal)',
        'for (const row of journal) tables.journal.get(row.partition)!.push(row)',
      ],
    ],
  },
  {
    name: 'balances-outside',
    what: 'balances are written outside the transaction',
    file: store,
    replace: [
      [
        'session.changes.balances.set(id, { balance, sequence })',
        'Object.assign(tables.wallets.get(id) ?? {}, { balance, sequence })',
      ],
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
    replace: [
      [
        'const beyond = stored.filter(({ partition, nextOffset }) => nextOffset > endOf(partition))',
        'const beyond = stored.filter(({ nextOffset }) => nextOffset < 0n && endOf(0) < 0n)',
      ],
    ],
  },
  {
    name: 'relay-not-assigned',
    what: 'the relay is not told of its partitions',
    file: consume,
    replace: [['onAssigned: assigned => relay.assign(assigned.map(({ partition }) => partition)),', '']],
  },
  {
    name: 'set-aside-not-awaited',
    what: 'a record is set aside without waiting for Kafka',
    file: applyBatch,
    replace: [
      [
        'await parts.setAside(record, error instanceof Error ? error.message : String(error))',
        'void parts.setAside(record, String(error)).catch(() => {})',
      ],
    ],
  },
  {
    name: 'poison-unanswered',
    what: 'a transfer that cannot be decided gets no outcome',
    file: applyBatch,
    replace: [
      [
        "      if (asked.type === 'pennywire.ledger.TransferRequested') {\n        reject(",
        "      if (asked.type !== 'poison' && asked.value.userId === '') {\n        reject(",
      ],
    ],
  },
  {
    name: 'deposit-refused',
    what: 'a confirmed deposit is refused when its id is taken',
    file: applyBatch,
    replace: [
      [
        "asked.type === 'deposit' ? displaceDeposit(earlier, asked) : asked",
        "asked.type === 'deposit' ? (displaceDeposit, asked) : asked",
      ],
    ],
  },
  {
    name: 'deposit-displaced-anew',
    what: 'each repeat of a displaced deposit is booked once more',
    file: applyBatch,
    replace: [
      [
        "request.type === 'deposit' ? displacedDepositIdOf(request.transferId) : [],",
        "request.type === 'deposit' && request.amountMinor < 0n ? displacedDepositIdOf(request.transferId) : [],",
      ],
    ],
  },
  {
    name: 'overdraft',
    what: 'more is spent than there is',
    file: decide,
    replace: [
      ['if (sender.balance - sender.held < amount) {', 'if (sender.balance - sender.held < amount / 2n) {'],
      [
        'if (wallet.userId !== null && wallet.balance + amount - wallet.held < 0n) {',
        'if (wallet.userId !== null && wallet.held < 0n) {',
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
        LOCK_WALLET,
        `      const { status, freezeSource } = walletSeenBy(session, id)!
      yield* lockRow(session, \`wallet \${id}\`)
      rows.push({ ...lockedWallet(walletSeenBy(session, id)!), status, freezeSource })`,
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
        'if (request.expiresAt !== null && nowMs > request.expiresAt) {',
        'if (request.expiresAt !== null && nowMs > request.expiresAt + 1_000) {',
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
    replace: [['if (!outcome.value.fingerprint.equals(request.fingerprint)) throw keyReused()\n', '']],
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
    replace: [['await parts.writePending({', 'void (parts.writePending, async (_: unknown) => {})({']],
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
    what: 'a confirmed deposit is called settled before Kafka has it',
    file: callback,
    replace: [
      ['    await parts.publishCommand({\n', '    parts.publishCommand({\n'],
      [
        "})\n    await parts.settle(payment.id, 'confirmed'",
        "}).catch(() => {})\n    await parts.settle(payment.id, 'confirmed'",
      ],
    ],
  },
]
