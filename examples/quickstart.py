"""Call the ModelWorker `smollm2` of the current cluster in every way `LM` knows."""

from modelworker import LM

with LM("smollm2") as lm:
    answer = lm.generate("The capital of France is", max_tokens=8, temperature=0)
    print(f"completion   {answer.text!r}")
    print(f"             from {answer.worker}, revision {answer.revision}, {answer.dtype}")

    question = [{"role": "user", "content": "What is the capital of Italy? One word."}]
    print(f"chat         {lm.chat(question, max_tokens=12, temperature=0).text!r}")

    samples = lm.generate("Once upon a time", n=4, max_tokens=12, temperature=0.8, seed=7)
    for sample in samples.samples:
        print(f"sample       {sample.mean_logprob:6.2f}  {sample.text!r}")

    print("stream      ", end="", flush=True)
    for part in lm.stream("One, two, three,", max_tokens=12, temperature=0):
        print(part.text, end="", flush=True)
    print()

    vector = lm.embed("A sentence about Kubernetes.")
    print(f"embedding    {len(vector)} numbers, norm {sum(x * x for x in vector) ** 0.5:.3f}")
    print(f"tokens       {lm.count_tokens('How many tokens is this?')}")
