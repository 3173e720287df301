/** The worker's file and the bounds of a pool of threads that render receipts; a service adds its refusals. */
export const RECEIPT_POOL = {
  name: 'receipts',
  script: new URL('./receipt-worker.ts', import.meta.url),
  threads: 1,
  maxWaiting: 20,
  maxPerSubject: 20,
  /** The first receipt loads the fonts, and a busy machine takes ten times as long. */
  timeoutMs: 20_000,
  heapMb: 128,
} as const
