"""The words of the page that Python shows; those of the viewer and of the blind tab stand in their templates."""

TITLE = "Few-step studio"
TAGLINE = "One prompt, one seed, one noise: {student} steps beside {teacher}."
NO_SCRIPT = "This page is drawn by JavaScript, which is switched off here."
NO_SCRIPT_HINT = "Allow it for this address and load the page again. Programs need none: they ask at /compare."

TAB_COMPARE, TAB_STUDY, TAB_RESULTS, TAB_QUIZ, TAB_ABOUT = "Compare", "Blind study", "Results", "Quiz", "About"
TAB_DISTIL = "Distil"
TAB_RACE, TAB_STEPS, TAB_SYSTEMS = "Race", "Steps", "Systems"

PROMPT = "Prompt"
PROMPT_PLACEHOLDER = "a cat left of a dog"
GENERATE = "Generate"
MORE = "↻"
SEED = "Seed"
DICE = "🎲"
STUDENT_STEPS = "Student steps"
TEACHER_STEPS = "Teacher steps"
TRAINED_STEPS = "✓ trained; the others it never practised"
EVALUATIONS = "{nfe} evaluations"

TEACHER, STUDENT = "Teacher", "Student"
TEACHER_FEW = "Teacher, {steps} steps"
STEPS_AND_NFE = "{steps} steps · {nfe} evaluations"
UNTRAINED = "untrained step count"
BATCHED = "{size} pictures at once, each clock its share"
FASTER = "{ratio:.1f}× faster"
SAME_NOISE = "All started from the same noise (SHA-256 {sha}…)."
UNREAD = "The text encoder takes no prompt this long; it did not read: “{prompt}”."
OTHER_NOISE = "Careful: the start noises differ, so the pictures cannot be compared one to one."
RECORDED = "The clocks of this example were recorded on this machine when the page first needed it."
UNKNOWN_WORDS = "This small model was never taught {words}. It draws its best guess."
BAD_LINK = "The link makes no sense, so here is an example. {problem}"
NO_SEED = "The seed must be a whole number: type one, or roll the dice."
STOPPED = "Stopped."
WAITING, LOADING = "waiting", "loading the model"
AHEAD = "waiting, {n} ahead"
PAIR_CLIP = "The pair beside each other (clip)"

SYSTEM = "System"
SYSTEM_NOT_HERE, SYSTEM_VIDEO = "not here yet", "video"
BESIDE, NOBODY = "Another student beside", "none"
CANNOT_RUN = "{title} cannot run here yet: {reasons}."
NO_SUCH_SYSTEM = "There is no system {name!r} here."
SURPRISE_ME = "Surprise me"
SETTINGS = "More settings"
GUIDANCE, GUIDANCE_HINT = "Teacher's guidance", "1 is none; a guided step costs two evaluations"
STRENGTH, STRENGTH_HINT = "Student's strength", "of its LoRA: 0 is the base alone, 1 as published"
FLOW_SHIFT, FLOW_SHIFT_HINT = "Flow shift", "how far the steps move towards noise"
WORDS = "The words that this small model knows"
SURPRISE = "The server met an error of its own; its log says more. Try once more."

LIVE_LOADING = "Loading the teacher; the first pictures come in a few seconds."
LIVE_AHEAD_ONE = "Somebody else’s student is learning. You are next."
LIVE_AHEAD = "{ahead} runs are before yours. Yours begins by itself when its turn comes."
LIVE_FULL = "Too many visitors are waiting for a run of their own. Try again in a few minutes."
LIVE_GAVE_WAY = "The paused run has ended, because somebody else was waiting for a turn."

RESULTS_OPEN = "The votes stay sealed while the study is open, so that nobody is swayed by them."
RESULTS_OPEN_HINT = "Vote in the blind study, then end it there: the result appears here at once."
RESULTS_EMPTY = "The study was closed without a single vote, so there is nothing to report."

JUDGED_TITLES = {
    "preferred": "Where raters preferred the student",
    "rejected": "Where raters preferred the teacher",
    "even": "Where raters were even",
}
JUDGED_SHARE = "student {share}, {votes} votes"
JUDGED_SHARE_ONE = "student {share}, one vote"
JUDGED_SIDES = "Left the teacher, right the student. They are told apart only now that the study is closed."

TAB_BENCHMARKS = "Benchmarks"
NO_REPORTS = "No report has been published for the models that are here."
NO_REPORTS_HINT = "A scored run becomes one with: python -m tdm_core evaluate publish."
BARS = "What was measured, and the bars that were set"
BARS_HINT = "Each table is one run, with its machine and its commit; make bench runs them again."
ARM_KINDS = {
    "student": "student",
    "teacher": "teacher",
    "few": "teacher cut to the student's steps",
    "equal": "teacher at equal evaluations",
}
METRICS = {"scenes": "Scene score", "frechet": "Fréchet distance", "mini-vbench": "Clip score"}
CATEGORIES = {
    "single object": "one object",
    "two object": "two objects",
    "colors": "colour",
    "color attr": "two objects, a colour each",
}
JUDGED = {"1": "right", "0": "wrong"}
PAIR_TITLES = {
    "Student better": "Where the student is right and the teacher is not",
    "Teacher better": "Where the teacher is right and the student is not",
    "Most different": "Where the two differ most",
}

RACE_LEAD = "One teacher sample, and all that the student makes in the same time."
RACE_ONE_BY_ONE = "They run one after the other, never at once: on a shared device both clocks would lie."
RACE_START, RACE_STOP = "Start the race", "Stop"
RACE_RESULT = "{n} {things} in the time of one"
RACE_THINGS = {"image": "pictures", "video": "clips"}
RACE_RATIOS = {
    "nfe": "network evaluations",
    "denoiser": "time in the network alone",
    "end_to_end": "time from text to pixels",
}
RACE_RECORDED = "As measured just now, batch 1, on {machine}."

STEPS_LEAD = (
    "What the network takes the finished picture to be at each step of the student, and at the teacher's step nearest "
    "in time."
)
STEPS_START = "Look inside the steps"
STEPS_FINISHED = "finished"
STEPS_NOTE = "Both start from the same noise. Of a clip the first frame is shown."
STEPS_AT = "noise {time:.2f}"

SYSTEMS_LEAD = "What this page can compare, what each needs, and why some cannot run here yet."
SYSTEM_FACTS = {"size": "Size", "steps": "Steps", "licence": "Licence", "download": "Download", "memory": "Memory"}
SYSTEM_RUNS, SYSTEM_CHOOSE = "runs here", "Compare with it"
SYSTEM_GATED = "gated"
