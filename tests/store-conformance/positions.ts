import { begin, byPartition, event, type StoreScript, write } from './site.ts'

export const POSITIONS: StoreScript[] = [
  {
    name: 'where MACs begin is set once: at the end that is given, at 0 where nothing is decided',
    run: async ({ store }) => {
      await store.readPositions([0, 1])
      await write(store, { partitions: [{ partition: 1, nextOffset: 9n, lastDigest: null, nextSeq: 1n }] })
      const at = async (...offsets: bigint[]) => [
        ...(await store.readMacsFrom(offsets.map((offset, partition) => ({ partition, offset })))),
      ]
      const inOrder = (rows: [number, bigint][]) => rows.toSorted(([a], [b]) => a - b)
      // Reading an unknown partition does not create its row.
      return [inOrder(await at(12n, 12n, 12n)), inOrder(await at(40n, 40n))]
    },
    expected: [
      [
        [0, 0n],
        [1, 12n],
      ],
      [
        [0, 0n],
        [1, 12n],
      ],
    ],
  },
  {
    name: 'positions begin at 0 and are made once',
    run: async ({ store }) => {
      const first = (await store.readPositions([1, 0])).toSorted(byPartition)
      await write(store, { partitions: [{ partition: 1, nextOffset: 9n, lastDigest: null, nextSeq: 1n }] })
      // Writing to an unknown partition does not create its row.
      await write(store, { partitions: [{ partition: 5, nextOffset: 9n, lastDigest: null, nextSeq: 1n }] })
      const ends = await Promise.all([store.readPositions([0, 1, 2]), store.readPositions([2, 1, 0])])
      const progress = (await store.readProgress([0, 1, 2, 5])).toSorted(byPartition)
      return [first, ends[0].toSorted(byPartition), ends[1].length, progress.length, progress[0]]
    },
    expected: [
      [
        { partition: 0, nextOffset: 0n, nextSeq: 1n, publishedThrough: 0n },
        { partition: 1, nextOffset: 0n, nextSeq: 1n, publishedThrough: 0n },
      ],
      [
        { partition: 0, nextOffset: 0n, nextSeq: 1n, publishedThrough: 0n },
        { partition: 1, nextOffset: 9n, nextSeq: 1n, publishedThrough: 0n },
        { partition: 2, nextOffset: 0n, nextSeq: 1n, publishedThrough: 0n },
      ],
      3,
      3,
      { partition: 0, publishedThrough: 0n, writtenThrough: 0n },
    ],
  },
  {
    name: 'O1: a published mark is raised and never lowered, by a late writer either',
    run: async ({ store }) => {
      await store.readPositions([0, 1])
      const marks = async () =>
        (await store.readProgress([0, 1])).toSorted(byPartition).map(row => row.publishedThrough)
      const raised = (...of: [number, bigint][]) => store.raisePublished(new Map(of)).then(marks)
      return [
        await raised([0, 5n], [1, 1n]),
        await raised([0, 3n], [1, 2n], [7, 9n]),
        await raised([0, 5n]),
        await raised([0, 6n]),
        await raised(),
      ]
    },
    expected: [
      [5n, 1n],
      [5n, 2n],
      [5n, 2n],
      [6n, 2n],
      [6n, 2n],
    ],
  },
  {
    name: 'a mark is raised while a batch holds the partition: the relay waits for nobody',
    run: async ({ store }) => {
      await store.readPositions([0])
      const batch = await begin(store)
      await batch.tx.lockPartitions([0])
      await store.raisePublished(new Map([[0, 1n]]))
      const progress = await store.readProgress([0])
      await batch.commit()
      return progress
    },
    expected: [{ partition: 0, publishedThrough: 1n, writtenThrough: 0n }],
  },
  {
    name: 'the journal is read in order from a place on, and at places',
    run: async ({ store }) => {
      await store.readPositions([0, 1])
      await write(store, { journal: [event(0, 1n), event(1, 1n), event(0, 2n), event(0, 3n)] })
      const after = async (...of: [number, bigint, number]) =>
        (await store.readJournalAfter(...of)).map(row => [row.partition, row.seq])
      const at = await store.transact(tx =>
        tx.readJournalAt([
          { partition: 0, seq: 3n },
          { partition: 1, seq: 1n },
          { partition: 1, seq: 2n },
          { partition: 8, seq: 1n },
        ]),
      )
      return [
        await after(0, 0n, 10),
        await after(0, 1n, 1),
        await after(0, 3n, 10),
        await after(8, 0n, 10),
        at.toSorted(byPartition),
      ]
    },
    expected: [
      [
        [0, 1n],
        [0, 2n],
        [0, 3n],
      ],
      [[0, 2n]],
      [],
      [],
      [event(0, 3n), event(1, 1n)],
    ],
  },
]
