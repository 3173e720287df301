import { createWorkerPool, type WorkerPool } from '../queues/worker-pool.ts'
import type { PdfWork } from './statement-pdf-worker.ts'

export type PdfPool = WorkerPool<PdfWork, Uint8Array>

/** Renders a gateway's PDF statements: one after the other, and one of a user at a time. */
export const createPdfPool = (): PdfPool =>
  createWorkerPool({
    name: 'PDF statements',
    script: new URL('./statement-pdf-worker.ts', import.meta.url),
    threads: 1,
    maxWaiting: 20,
    maxPerSubject: 1,
    timeoutMs: 20_000,
    heapMb: 128,
  })
