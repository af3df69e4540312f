"""TRecViT exactly as released: its backbone, and the classifier (2412.14294)."""

from perceiver_stream.core.recurrent_vit import RecurrentVit as RecurrentVit
from perceiver_stream.core.recurrent_vit import RecurrentVitConfig as RecurrentVitConfig
from perceiver_stream.models.trecvit_classifier.classifier import Classifier as Classifier
from perceiver_stream.models.trecvit_classifier.classifier import Config as Config
from perceiver_stream.models.trecvit_classifier.model import build as build
from perceiver_stream.models.trecvit_classifier.variants import FAMILY as FAMILY
