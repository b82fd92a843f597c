//! A call from a page in a real browser: a tone of the page is measured where it is heard, and the other's tone in the page.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::browser::Browser;
use crate::world::{Node, json_lines};

const PATIENCE: Duration = Duration::from_secs(60);
const RATE: u32 = 48_000;
/// What the page says, at first and when it has come back, and what it hears.
const SAID_HZ: f64 = 440.0;
const SAID_LATER_HZ: f64 = 520.0;
const HEARD_HZ: f64 = 620.0;
/// Of both, as a part of full scale.
const AMPLITUDE: f64 = 0.25;

/// What the page of the project does, in short: an exact tone in place of a microphone, and the speaker tapped. Its token
/// lies under another name: in a build that has the project's page, that page finds none and leaves the call alone.
const PAGE: &str = r#"
window.ask = async (method, path, body) => {
  const headers = { authorization: `Bearer ${sessionStorage.getItem('token-of-the-test')}` };
  if (body) headers['content-type'] = 'application/json';
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return text && JSON.parse(text);
};
window.attach = async (call, hertz, level) => {
  const audio = new AudioContext({ sampleRate: 48000 });
  await audio.resume();
  const microphone = new MediaStreamAudioDestinationNode(audio, { channelCount: 1 });
  const gain = new GainNode(audio, { gain: level });
  const tone = new OscillatorNode(audio, { frequency: hertz });
  tone.connect(gain).connect(microphone);
  tone.start();
  const peer = new RTCPeerConnection();
  peer.addTransceiver(microphone.stream.getAudioTracks()[0], { direction: 'sendrecv' });
  const track = new Promise((resolve) => { peer.ontrack = (event) => resolve(event.track); });
  const connected = new Promise((resolve, reject) => {
    peer.onconnectionstatechange = () => {
      if (peer.connectionState == 'connected') resolve();
      if (peer.connectionState == 'failed') reject(new Error('no connection'));
    };
  });
  await peer.setLocalDescription();
  const { type, sdp } = peer.localDescription;
  const answer = await ask('POST', `/api/calls/${call}/sound`, { type, sdp });
  await peer.setRemoteDescription({ type: answer.type, sdp: answer.sdp });
  await connected;
  const stream = new MediaStream([await track]);
  // Chromium plays a stream into Web Audio only while an element plays it too.
  const speaker = new Audio();
  speaker.srcObject = stream;
  speaker.muted = true;
  await speaker.play();
  window.held = { audio, peer, stream, speaker, tone };
  return answer.attachment;
};
window.listen = async (seconds) => {
  const { audio, stream } = window.held;
  const source = new MediaStreamAudioSourceNode(audio, { mediaStream: stream });
  const tap = audio.createScriptProcessor(4096, 1, 1);
  const samples = [];
  await new Promise((resolve) => {
    tap.onaudioprocess = (event) => {
      for (const sample of event.inputBuffer.getChannelData(0)) samples.push(Math.round(sample * 32767));
      if (samples.length >= seconds * audio.sampleRate) resolve();
    };
    source.connect(tap).connect(audio.destination);
  });
  tap.onaudioprocess = null;
  source.disconnect();
  return samples;
};
true
"#;

#[test]
fn a_page_calls_is_heard_hears_and_comes_back_after_a_reload() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let tone = folder.path().join("tone.wav");
    write_tone(&tone);
    let (supernodes, with_bootstrap) = network(101);
    let with_bootstrap: Vec<&str> = with_bootstrap.iter().map(String::as_str).collect();
    let answer = format!("wav:{}", tone.display());
    let bob = Node::up(104, &[&with_bootstrap[..], &["--answer", &answer]].concat());
    let alice = Node::up(105, &with_bootstrap);

    enter(&mut browser, &alice);
    let begin = format!("ask('POST', '/api/calls', {{address: {:?}, endpoint: 'page'}})", bob.address());
    let call = browser.run(&begin)["call"].as_str().unwrap().to_owned();
    let attach = |hertz: f64| format!("attach({call:?}, {hertz}, {AMPLITUDE})");
    assert_eq!(browser.run(&attach(SAID_HZ)), 1);
    wait_for(&mut browser, &call, |call| call["state"] == "talking" && call["attachment"] == 1);
    assert_heard_in_page(&mut browser);

    // The page is closed and opened again: the call has not noticed.
    browser.reload();
    browser.run(PAGE);
    wait_for(&mut browser, &call, |call| call["state"] == "talking" && call["endpoint"] == "page");
    assert_eq!(browser.run(&attach(SAID_LATER_HZ)), 2);
    wait_for(&mut browser, &call, |call| call["attachment"] == 2);
    assert_heard_in_page(&mut browser);

    browser.run(&format!("ask('POST', '/api/calls/{call}/hangup')"));
    let over = wait_for(&mut browser, &call, |call| call["state"] == "ended");
    let result = &over["result"];
    assert_eq!(
        (result["connected"].as_bool(), result["packets"]["lost"].as_u64()),
        (Some(true), Some(0)),
        "{over}"
    );
    assert_eq!(result["concealed_ms"], Value::Null, "nothing was decoded here: {over}");
    assert!(result["packets"]["sent"].as_u64().unwrap() > 200, "{over}");

    let heard = read(&recording(&bob));
    assert_tone(&heard, SAID_HZ);
    assert_tone(&heard, SAID_LATER_HZ);
    drop((alice, bob, supernodes));
}

#[test]
fn a_page_answers_a_call_of_the_command_line() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let tone = folder.path().join("tone.wav");
    let heard = folder.path().join("heard.wav");
    write_tone(&tone);
    let (supernodes, with_bootstrap) = network(107);
    let with_bootstrap: Vec<&str> = with_bootstrap.iter().map(String::as_str).collect();
    let alice = Node::up(110, &[&with_bootstrap[..], &["--strangers", "ring"]].concat());
    let bob = Node::up(111, &with_bootstrap);

    enter(&mut browser, &alice);
    let (play, record) = (tone.to_str().unwrap(), heard.to_str().unwrap());
    let arguments = ["call", alice.address(), "--play", play, "--record", record, "--for", "8s", "--json"];
    let output = std::thread::scope(|scope| {
        let calling = scope.spawn(|| bob.run(&arguments));
        let call = ringing(&mut browser);
        browser.run(&format!("ask('POST', '/api/calls/{call}/answer', {{endpoint: 'page'}})"));
        browser.run(&format!("attach({call:?}, {SAID_HZ}, {AMPLITUDE})"));
        assert_heard_in_page(&mut browser);
        calling.join().unwrap()
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result = json_lines(&output).pop().unwrap();
    assert_eq!(
        (result["connected"].as_bool(), result["packets"]["lost"].as_u64()),
        (Some(true), Some(0)),
        "{result}"
    );
    assert_tone(&read(&heard), SAID_HZ);
    drop((alice, bob, supernodes));
}

/// Three supernodes, and how others find them.
fn network(at: u8) -> (Vec<Node>, Vec<String>) {
    let first = Node::supernode(at, &[]);
    let bootstrap = first.listen();
    let mut supernodes: Vec<Node> =
        (at + 1..=at + 2).map(|network| Node::supernode(network, &bootstrap)).collect();
    supernodes.push(first);
    (supernodes, bootstrap.into_iter().flat_map(|address| ["--bootstrap".to_owned(), address]).collect())
}

/// Opens the page by a link, as a person does, and trades its code.
fn enter(browser: &mut Browser, node: &Node) {
    let info: Value =
        serde_json::from_str(&std::fs::read_to_string(node.data.join("api.json")).unwrap()).unwrap();
    let (address, token) = (info["address"].as_str().unwrap(), info["token"].as_str().unwrap());
    let link: Value = ureq::post(format!("http://{address}/api/page/link"))
        .header("authorization", format!("Bearer {token}"))
        .send_empty()
        .unwrap()
        .body_mut()
        .read_json()
        .unwrap();
    let (page, code) = link["url"].as_str().unwrap().split_once("#code=").unwrap();
    browser.open(page);
    browser.run(PAGE);
    let trade = format!(
        "ask('POST', '/api/page/session', {{code: {code:?}}}).then(({{token}}) => sessionStorage.setItem('token-of-the-test', token))"
    );
    browser.run(&trade);
}

/// Waits until a call is as wanted, by asking for all of them.
fn wait_for(browser: &mut Browser, call: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let calls = browser.run("ask('GET', '/api/calls')");
        let found = calls.as_array().unwrap().iter().find(|other| other["call"] == call);
        if let Some(found) = found.filter(|call| wanted(call)) {
            return found.clone();
        }
        assert!(Instant::now() < until, "{calls}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The name of a call that rings here.
fn ringing(browser: &mut Browser) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let calls = browser.run("ask('GET', '/api/calls')");
        if let Some(call) = calls.as_array().unwrap().iter().find(|call| call["state"] == "ringing") {
            return call["call"].as_str().unwrap().to_owned();
        }
        assert!(Instant::now() < until, "nobody calls: {calls}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The browser's jitter buffer may stretch the first moments.
fn assert_heard_in_page(browser: &mut Browser) {
    let until = Instant::now() + PATIENCE;
    loop {
        let samples = browser.run("listen(2)");
        let samples: Vec<f64> =
            samples.as_array().unwrap().iter().map(|sample| sample.as_f64().unwrap() / 32_767.0).collect();
        let measured = measure(&samples, HEARD_HZ);
        if fits(measured, HEARD_HZ) {
            return;
        }
        assert!(Instant::now() < until, "in the page: {measured:?}");
    }
}

/// A second of it, somewhere: on a busy machine a browser stutters.
fn assert_tone(heard: &[f64], hertz: f64) {
    let second = RATE as usize;
    let loudest = |best: f64, window: &[f64]| amplitude(window, hertz).max(best);
    let found = heard
        .windows(second)
        .step_by(second / 4)
        .filter(|window| amplitude(window, hertz) > AMPLITUDE * 0.8)
        .any(|window| fits(measure(window, hertz), hertz));
    let most = heard.windows(second).step_by(second / 4).fold(0.0, loudest);
    assert!(found, "no second of {hertz} Hz of {AMPLITUDE}: {most} at most in {} samples", heard.len());
}

/// Within 1 Hz and 1 dB.
fn fits((hertz, amplitude): (f64, f64), wanted: f64) -> bool {
    (hertz - wanted).abs() <= 1.0 && (20.0 * (amplitude / AMPLITUDE).log10()).abs() <= 1.0
}

/// Frequency and amplitude of the strongest tone within 20 Hz of one.
fn measure(samples: &[f64], near: f64) -> (f64, f64) {
    (-200..=200)
        .map(|step| near + f64::from(step) / 10.0)
        .map(|hertz| (hertz, amplitude(samples, hertz)))
        .fold((0.0, 0.0), |best, this| if this.1 > best.1 { this } else { best })
}

/// By a Fourier integral under a Hann window, whose mean is a half.
fn amplitude(samples: &[f64], hertz: f64) -> f64 {
    let turn = std::f64::consts::TAU / f64::from(RATE) * hertz;
    let hann = std::f64::consts::TAU / samples.len() as f64;
    let (mut real, mut imaginary) = (0.0, 0.0);
    for (index, sample) in samples.iter().enumerate() {
        let weighted = sample * (0.5 - 0.5 * (hann * index as f64).cos());
        let (sine, cosine) = (turn * index as f64).sin_cos();
        real += weighted * cosine;
        imaginary += weighted * sine;
    }
    4.0 * real.hypot(imaginary) / samples.len() as f64
}

fn write_tone(path: &Path) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for index in 0..RATE * 90 {
        let phase = std::f64::consts::TAU * HEARD_HZ * f64::from(index) / f64::from(RATE);
        writer.write_sample((AMPLITUDE * phase.sin() * 32_767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}

fn read(path: &Path) -> Vec<f64> {
    let mut reader = hound::WavReader::open(path).unwrap();
    assert_eq!((reader.spec().sample_rate, reader.spec().channels), (RATE, 1));
    reader.samples::<i16>().map(|sample| f64::from(sample.unwrap()) / 32_767.0).collect()
}

/// What a node that answered by itself has recorded of its one call, once the call's report is there too.
fn recording(node: &Node) -> PathBuf {
    let until = Instant::now() + PATIENCE;
    loop {
        let files: Vec<PathBuf> = std::fs::read_dir(node.data.join("calls"))
            .map(|files| files.filter_map(|file| Some(file.ok()?.path())).collect())
            .unwrap_or_default();
        let ending = |ending: &str| files.iter().find(|path| path.extension().is_some_and(|it| it == ending));
        if let (Some(recording), Some(_)) = (ending("wav"), ending("json")) {
            return recording.clone();
        }
        assert!(Instant::now() < until, "no recording: {files:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
