"""What a consumer needs: find, check and run a promoted model, without TensorFlow."""
