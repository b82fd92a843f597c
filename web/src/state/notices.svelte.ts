// What a person is told in passing: problems of the node, and that something was done.
import { Refused } from '../api/client';
import type { Problem } from '../api/types';
import { t } from '../texts/index.svelte';

export interface Notice {
  id: number;
  kind: 'problem' | 'done';
  text: string;
  problem?: Problem;
}

const NOTICES_MOST = 4;
const DONE_STAYS_MS = 5_000;

class Notices {
  list = $state<Notice[]>([]);
  #next = 1;

  /** Something was done; the words go by themselves. */
  done(text: string): void {
    const id = this.#add({ kind: 'done', text });
    setTimeout(() => this.dismiss(id), DONE_STAYS_MS);
  }

  /** A problem as the node tells it. It stays until it is dismissed; the same one is not shown twice. */
  problem(problem: Problem): void {
    if (this.list.some((notice) => notice.problem?.code === problem.code && notice.text === problem.message))
      return;
    this.#add({ kind: 'problem', text: problem.message, problem });
  }

  /** Something failed. */
  failed(error: unknown): void {
    this.problem(problemFrom(error));
  }

  dismiss(id: number): void {
    this.list = this.list.filter((notice) => notice.id !== id);
  }

  #add(notice: Omit<Notice, 'id'>): number {
    const id = this.#next++;
    this.list = [...this.list, { id, ...notice }].slice(-NOTICES_MOST);
    return id;
  }
}

/** A failure as a problem: the node's own words, or that it does not answer. */
export function problemFrom(error: unknown): Problem {
  if (error instanceof Refused) return error.problem;
  return {
    code: '',
    message: t('page.unreachable.message'),
    meaning: t('page.unreachable.meaning'),
    action: t('page.unreachable.action'),
  };
}

export const notices = new Notices();
