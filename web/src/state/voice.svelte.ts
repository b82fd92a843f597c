// The one call whose sound is on this page: attaching, muting, being attached again after a reload or a break.
import { Refused } from '../api/client';
import { microphoneTrouble, openMicrophone, SoundLink, type MicrophoneTrouble } from '../sound/link';
import type { CallEvent } from '../api/types';
import { soundDevices } from '../sound/devices.svelte';
import { calls } from './calls.svelte';
import { notices } from './notices.svelte';
import { prefs } from './prefs.svelte';
import { client } from './session.svelte';

export type VoiceState =
  /** No call's sound is here. */
  | 'idle'
  | 'attaching'
  | 'attached'
  /** It broke, and is being attached again. */
  | 'again'
  /** Another tab has it. */
  | 'elsewhere'
  | 'failed';

/** Waits between attempts to attach again. */
const AGAIN_MS = [0, 300, 1_000, 2_000, 4_000] as const;

/** Firefox connects to no address of loopback, so the node offers it one of the local network. */
const LAN = navigator.userAgent.includes('Firefox/');

const NOTHING = (): void => undefined;

class Voice {
  state = $state<VoiceState>('idle');
  call = $state<string | undefined>(undefined);
  muted = $state(false);
  trouble = $state<MicrophoneTrouble | undefined>(undefined);
  needsClick = $state(false);
  /** The streams, for the meters. */
  local = $state.raw<MediaStream | undefined>(undefined);
  remote = $state.raw<MediaStream | undefined>(undefined);
  #link: SoundLink | undefined;
  #letGo: () => void = NOTHING;
  #heldCall: string | undefined;
  #attachment: number | undefined;
  #attempts = 0;
  /** Counts up with each attachment, so that a slow one that was overtaken ends. */
  #turn = 0;

  /** Opens the microphone and places a call. */
  async place(address: string): Promise<boolean> {
    return this.#begin(() => client.placeCall(address));
  }

  /** A test call to an echo. */
  async echo(): Promise<boolean> {
    return this.#begin(async () => {
      const started = await client.placeEcho();
      calls.noteEcho(started.call);
      return started;
    });
  }

  /** Opens the microphone and answers. */
  async answer(call: string): Promise<boolean> {
    return this.#begin(async () => {
      await client.answer(call);
      return { call };
    });
  }

  /** Attaches to a call that goes on: after a reload, or from another tab. */
  async attach(call: string, steal = false): Promise<void> {
    if (this.call === call && (this.state === 'attached' || this.state === 'attaching')) return;
    this.call = call;
    this.state = 'attaching';
    const microphone = await this.#microphone();
    await this.#attach(call, microphone, steal);
  }

  setMuted(muted: boolean): void {
    this.muted = muted;
    if (this.#link !== undefined) this.#link.muted = muted;
  }

  /** After a click, which some browsers want before they play. */
  async play(): Promise<void> {
    await this.#link?.play();
    this.needsClick = this.#link?.needsClick ?? false;
  }

  async useMicrophone(id: string): Promise<void> {
    await prefs.change({ microphone: id });
    if (this.#link === undefined) return;
    const microphone = await this.#microphone();
    if (microphone === undefined) return;
    await this.#link.useMicrophone(microphone);
    this.local = new MediaStream(this.#link.local?.getTracks() ?? []);
  }

  async useSpeaker(id: string): Promise<void> {
    await prefs.change({ speaker: id });
    await this.#link?.useSpeaker(id).catch(() => undefined);
  }

  /** What the node tells of the sound of a call. */
  take(event: CallEvent): void {
    if (event.call !== this.call) return;
    if (event.event === 'sound_rate') {
      void this.#link?.limit(event.bits_per_second).catch(() => undefined);
    } else if (event.event === 'sound_detached' && event.attachment === this.#attachment) {
      // Replaced: another browser has it now, and taking it back by itself would be a quarrel without end.
      if (event.reason === 'replaced') this.#taken();
      else if (event.reason !== 'left') this.#lost(this.#turn);
    } else if (event.event === 'ended') {
      this.release();
    }
  }

  /** Lets the sound go: the call is over, or another tab takes it. */
  release(): void {
    this.#turn += 1;
    this.#drop();
    this.#letGo();
    this.#letGo = NOTHING;
    this.#heldCall = undefined;
    this.call = undefined;
    this.muted = false;
    this.state = 'idle';
    this.trouble = undefined;
    this.#attempts = 0;
  }

  async #begin(start: () => Promise<{ call: string }>): Promise<boolean> {
    this.release();
    // From here on nobody else attaches: the call is in the node's list before its sound is here.
    this.state = 'attaching';
    const microphone = await this.#microphone();
    try {
      const { call } = await start();
      await calls.load();
      await this.#attach(call, microphone, true);
      return true;
    } catch (error) {
      stop(microphone);
      this.release();
      notices.failed(error);
      return false;
    }
  }

  async #microphone(): Promise<MediaStream | undefined> {
    try {
      const stream = await openMicrophone(prefs.kept.microphone);
      this.trouble = undefined;
      void soundDevices.watch();
      return stream;
    } catch (error) {
      this.trouble = microphoneTrouble(error);
      return undefined;
    }
  }

  async #attach(call: string, microphone: MediaStream | undefined, steal: boolean): Promise<void> {
    const turn = ++this.#turn;
    this.#drop();
    this.call = call;
    this.state = this.#attempts === 0 ? 'attaching' : 'again';
    if (!(await this.#hold(call, steal))) {
      stop(microphone);
      this.state = 'elsewhere';
      return;
    }
    try {
      const link = await SoundLink.open(microphone, {
        speaker: prefs.kept.speaker,
        exchange: async (offer) => {
          const answer = await client.sound(call, offer, LAN);
          this.#attachment = answer.attachment;
          return answer.sdp;
        },
        onLost: () => this.#lost(turn),
      });
      if (turn !== this.#turn) link.close();
      else this.#attached(link);
    } catch (error) {
      stop(microphone);
      if (turn === this.#turn) this.#failed(turn, error);
    }
  }

  #attached(link: SoundLink): void {
    this.#link = link;
    link.muted = this.muted;
    this.local = link.local;
    this.remote = link.remote;
    // Not waited for: a browser without a speaker never says that it plays.
    void link.play().then(() => (this.needsClick = link.needsClick));
    this.#attempts = 0;
    this.state = 'attached';
  }

  #failed(turn: number, error: unknown): void {
    // What the node refuses it refuses again.
    if (error instanceof Refused) {
      this.state = 'failed';
      notices.failed(error);
    } else {
      this.#lost(turn);
    }
  }

  #lost(turn: number): void {
    if (turn !== this.#turn || this.call === undefined) return;
    const call = this.call;
    this.#drop();
    const pause = AGAIN_MS[this.#attempts];
    if (pause === undefined) {
      this.state = 'failed';
      this.#attempts = 0;
      return;
    }
    this.#attempts += 1;
    this.state = 'again';
    setTimeout(() => {
      const going = calls.get(call)?.state !== 'ended';
      if (turn !== this.#turn || !going) return;
      void this.#microphone().then((microphone) => this.#attach(call, microphone, false));
    }, pause);
  }

  /** One tab at a time has the sound of a call. Says whether it is this one now. */
  async #hold(call: string, steal: boolean): Promise<boolean> {
    if (this.#letGo !== NOTHING && this.#heldCall === call) return true;
    this.#letGo();
    this.#letGo = NOTHING;
    this.#heldCall = undefined;
    return new Promise((decided) => {
      let letGo = NOTHING;
      const options: LockOptions = steal ? { steal: true } : { ifAvailable: true };
      const held = navigator.locks.request(`tandem-sound-${call}`, options, async (lock) => {
        if (lock === null) {
          decided(false);
          return;
        }
        await new Promise<void>((done) => {
          letGo = done;
          this.#letGo = done;
          this.#heldCall = call;
          decided(true);
        });
      });
      held.catch(() => this.#stolen(letGo));
    });
  }

  /** Another tab took the sound, if what was stolen is what is held now. */
  #stolen(letGo: () => void): void {
    if (letGo === NOTHING || this.#letGo !== letGo) return;
    this.#heldCall = undefined;
    this.#letGo = NOTHING;
    this.#taken();
  }

  #taken(): void {
    this.#turn += 1;
    this.#drop();
    this.state = 'elsewhere';
  }

  #drop(): void {
    this.#link?.close();
    this.#link = undefined;
    this.local = undefined;
    this.remote = undefined;
    this.needsClick = false;
  }
}

function stop(stream: MediaStream | undefined): void {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

export const voice = new Voice();
