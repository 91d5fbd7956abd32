"""Talks to a server through the `llm` command: python llm_python.py BASE_URL. Its settings are in the folder LLM_USER_PATH."""

import json
import os
import pathlib
import subprocess
import sys

MODELS = """
- model_id: bay
  model_name: smollm2
  api_base: {url}/v1
  supports_schema: true
"""

DOG = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def llm(*arguments: str) -> str:
    ran = subprocess.run([sys.executable, "-m", "llm", *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, (arguments, ran.stdout, ran.stderr)
    return ran.stdout


def main():
    settings = pathlib.Path(os.environ["LLM_USER_PATH"])
    (settings / "extra-openai-models.yaml").write_text(MODELS.format(url=sys.argv[1]))
    (settings / "keys.json").write_text(json.dumps({"openai": "none"}))
    asked = ["-m", "bay", "-o", "temperature", "0", "-o", "max_tokens", "12", "What is the capital of France?"]
    whole, streamed = llm("prompt", "--no-stream", *asked), llm("prompt", *asked)
    assert "Paris" in whole and whole.strip() == streamed.strip(), (whole, streamed)
    again = llm("prompt", "-c", "-m", "bay", "-o", "max_tokens", "4", "Once more, please.")
    assert again.strip(), "a conversation goes on"
    formed = llm("prompt", "-m", "bay", "-o", "max_tokens", "100", "-o", "temperature", "0", "--schema", json.dumps(DOG), "Invent a dog.")
    assert set(json.loads(formed)) == {"name", "age"}, formed


main()
